//! Inputs to begin with: what the recorded vectors hold, and small messages that are well formed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use prost::Message as _;
use serde_json::Value;
use tinderbox_commit::{Message, Reply};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::FlowId;
use tinderbox_frost::OperatorIndex;
use tinderbox_rpc::proto::spark;

/// Inputs of one target at most: the fuzzer drops those that add nothing.
const MOST: usize = 400;

/// Writes the inputs of a target into a folder.
///
/// # Errors
/// If files cannot be read or written.
pub fn write(target: &str, folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let texts = texts()?;
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    match target {
        "text" | "session" => inputs.extend(texts.iter().map(|text| text.clone().into_bytes())),
        "config" => inputs.extend(configs()),
        "node" => inputs.extend(node_answers()),
        _ => inputs.extend(texts.iter().filter_map(|text| hex::decode(text).ok())),
    }
    match target {
        "wire" => inputs.extend(requests()),
        "agreement" => inputs.extend(messages()),
        "wallet" => inputs.extend(vector_files()?),
        _ => {}
    }
    inputs.truncate(MOST);
    for (number, input) in inputs.iter().enumerate() {
        // The first byte chooses among the parsers of a target: try each.
        for choice in [None, Some(0u8), Some(1), Some(2), Some(3)] {
            let mut bytes: Vec<u8> = choice.into_iter().collect();
            bytes.extend_from_slice(input);
            let name = format!("seed-{number}-{}", choice.map_or(0, |choice| choice + 1));
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}

fn vectors() -> std::io::Result<Vec<std::path::PathBuf>> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut files = Vec::new();
    for entry in fs::read_dir(crates)? {
        let folder = entry?.path().join("tests/vectors");
        if let Ok(entries) = fs::read_dir(folder) {
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

fn vector_files() -> std::io::Result<Vec<Vec<u8>>> {
    vectors()?.into_iter().map(fs::read).collect()
}

/// Every text in every recorded vector.
fn texts() -> std::io::Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for file in vectors()? {
        if let Ok(value) = serde_json::from_slice(&fs::read(file)?) {
            collect(&value, &mut found);
        }
    }
    // Short ones first: they are quick, and the fuzzer makes longer ones itself.
    let mut texts: Vec<String> = found.into_iter().filter(|text| text.len() > 15).collect();
    texts.sort_by_key(String::len);
    // A spread over all lengths.
    let step = texts.len().div_ceil(MOST).max(1);
    Ok(texts.into_iter().step_by(step).collect())
}

fn collect(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            found.insert(text.clone());
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        Value::Object(map) => map.values().for_each(|value| collect(value, found)),
        _ => {}
    }
}

fn requests() -> Vec<Vec<u8>> {
    let job = spark::UserSignedTxSigningJob {
        leaf_id: "01234567-89ab-7def-8123-456789abcdef".into(),
        signing_public_key: vec![2; 33],
        raw_tx: vec![1; 60],
        user_signature: vec![3; 32],
        ..Default::default()
    };
    let package = spark::TransferPackage {
        leaves_to_send: vec![job.clone()],
        direct_from_cpfp_leaves_to_send: vec![job.clone()],
        user_signature: vec![48; 70],
        hash_variant: 1,
        ..Default::default()
    };
    let transfer = spark::StartTransferRequest {
        transfer_id: "01234567-89ab-7def-8123-456789abcdef".into(),
        owner_identity_public_key: vec![2; 33],
        receiver_identity_public_key: vec![3; 33],
        transfer_package: Some(package.clone()),
        ..Default::default()
    };
    vec![
        job.encode_to_vec(),
        package.encode_to_vec(),
        transfer.encode_to_vec(),
    ]
}

fn messages() -> Vec<Vec<u8>> {
    let flow = FlowId([1; 16]);
    let messages = [
        Message::Inquire { flow, decide: true },
        Message::Prepare {
            flow,
            coordinator: OperatorIndex(0),
            request: vec![1, 0, 0],
        },
    ];
    let replies = [
        Reply::Unknown,
        Reply::Later(Refusal::new(Reason::Internal, "no")),
    ];
    let messages = messages.iter().map(postcard::to_allocvec);
    let replies = replies.iter().map(postcard::to_allocvec);
    messages.chain(replies).flatten().collect()
}

fn configs() -> Vec<Vec<u8>> {
    let operator = r#"
network = "regtest"
index = 0
threshold = 2
deposit_confirmations = 3
[listen]
public = "127.0.0.1:8535"
peer = "127.0.0.1:8635"
[database]
sqlite = "rows.sqlite"
[signer]
identity_key = "identity.key"
vault = "vault"
[bitcoin]
url = "http://127.0.0.1:8332"
user = "u"
password = "p"
[[operators]]
identity = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
address = "https://localhost:8535"
peer = "127.0.0.1:8635"
[[operators]]
identity = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5"
address = "https://localhost:8536"
peer = "127.0.0.1:8636"
"#;
    let mut all = vec![operator.as_bytes().to_vec()];
    if let Ok(config) = tinderbox_wallet::Config::local(3)
        && let Ok(text) = toml::to_string(&config)
    {
        all.push(text.into_bytes());
    }
    all
}

fn node_answers() -> Vec<Vec<u8>> {
    let hash = "00000000000000000000000000000000000000000000000000000000000000ff";
    [
        format!(r#"{{"chain":"regtest","blocks":1,"headers":1,"bestblockhash":"{hash}","initialblockdownload":false,"pruned":false}}"#),
        format!(r#"{{"hash":"{hash}","height":7,"confirmations":1,"previousblockhash":"{hash}","time":1,"mediantime":1,"nTx":1}}"#),
        format!(r#"{{"bestblock":"{hash}","confirmations":3,"value":0.00010000,"scriptPubKey":{{"hex":"51024e73"}},"coinbase":false}}"#),
        r#"{"feerate":0.00001000,"blocks":2,"errors":["x"]}"#.to_owned(),
        r#"[{"txid":"x","allowed":false,"reject-reason":"bad-txns"}]"#.to_owned(),
        r#"{"package_msg":"success","tx-results":{},"replaced-transactions":[]}"#.to_owned(),
        format!(r#"{{"hash":"{hash}","height":7}}"#),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}
