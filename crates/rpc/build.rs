//! Compiles the protocol files with a compiler written in Rust, so that no system `protoc` is
//! needed.

use std::error::Error;
use std::path::Path;

/// One entry file per package that has a service, and every file that no service reaches.
const FILES: &[&str] = &[
    "common.proto",
    "multisig.proto",
    "mock.proto",
    "spark_authn.proto",
    "spark/service.proto",
    "spark/tree_building.proto",
    "spark_ssp_internal/service.proto",
    "spark_token/service.proto",
    "tinderbox/peer/v1/peer.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES.iter().map(|file| root.join(file)), [root])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .codec_path("crate::codec::StrictCodec")
        // A method that no handler overrides answers UNIMPLEMENTED.
        .generate_default_stubs(true)
        // Ordered maps: signed payloads walk map entries in ascending key order.
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
