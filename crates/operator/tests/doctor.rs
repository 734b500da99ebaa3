//! The doctor looks at operators that run.

#[allow(dead_code, reason = "no wallet takes part here")]
mod common;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use common::Network;
use tinderbox_operator::doctor::{Level, Report, examine};

fn worst(report: &Report, about: &str) -> Level {
    let found = report.findings.iter().filter(|one| one.about == about);
    found
        .map(|one| one.level)
        .max()
        .unwrap_or_else(|| panic!("nothing about {about}: {report}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_healthy_operators_well_and_names_the_one_that_is_down() {
    let mut network = Network::plan().await;
    let mut paths = Vec::new();
    for (index, file) in network.files.iter_mut().enumerate() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        file.listen.metrics = Some(listener.local_addr().unwrap().to_string());
        if let Some(key) = &file.signer.identity_key {
            std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let path = network.folder.path().join(format!("{index}.toml"));
        std::fs::write(&path, file.to_toml().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        paths.push(path);
    }
    let mut running = network.start().await;
    let report = examine(&paths[0]).await;
    for about in [
        "configuration",
        "identity",
        "process",
        "database",
        "node",
        "chain",
        "operator 1",
        "operator 2",
    ] {
        assert_eq!(worst(&report, about), Level::Good, "{about}: {report}");
    }
    running.pop().unwrap().stop().await;
    let report = examine(&paths[0]).await;
    assert_eq!(worst(&report, "operator 1"), Level::Good, "{report}");
    assert_eq!(worst(&report, "operator 2"), Level::Bad, "{report}");
    assert_eq!(report.exit_code(), 2);
    for operator in running {
        operator.stop().await;
    }
    network.node.stop().await.unwrap();
}
