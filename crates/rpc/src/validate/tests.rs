use super::*;
use crate::Reason;
use crate::proto::spark::*;
use crate::proto::{multisig, spark_token};

fn refusal(request: &impl Validate) -> ServiceError {
    check(request).expect_err("must be refused")
}

#[test]
fn unspecified_network_is_refused_by_name() {
    let error = refusal(&GenerateDepositAddressRequest::default());
    assert_eq!(error.code, tonic::Code::InvalidArgument);
    assert_eq!(error.reason, Some(Reason::MalformedField));
    assert_eq!(error.metadata["field"], "network");
    assert!(error.message.contains("network"));
}

#[test]
fn absent_optional_fields_are_not_checked_and_present_ones_are() {
    let mut request = GenerateDepositAddressRequest {
        network: 2,
        ..Default::default()
    };
    assert_eq!(check(&request), Ok(()));
    request.leaf_id = Some("not-a-uuid".into());
    assert_eq!(refusal(&request).metadata["field"], "leaf_id");
    request.leaf_id = Some("01890a5d-ac96-774b-bcce-b302099a8057".into());
    assert_eq!(check(&request), Ok(()));
}

#[test]
fn a_rule_deep_inside_names_the_whole_path() {
    let request = FinalizeDepositTreeCreationRequest {
        identity_public_key: vec![2; 33],
        on_chain_utxo: Some(Utxo {
            network: 2,
            ..Default::default()
        }),
        additional_on_chain_utxos: vec![
            Utxo {
                network: 2,
                ..Default::default()
            },
            Utxo::default(),
        ],
        ..Default::default()
    };
    assert_eq!(
        refusal(&request).metadata["field"],
        "additional_on_chain_utxos[1].network"
    );
}

#[test]
fn a_list_of_too_many_items_is_refused() {
    let mut request = QueryNodesRequest {
        source: Some(query_nodes_request::Source::NodeIds(TreeNodeIds {
            node_ids: vec![String::new(); MAX_ITEMS],
        })),
        ..Default::default()
    };
    assert_eq!(check(&request), Ok(()));
    request.source = Some(query_nodes_request::Source::NodeIds(TreeNodeIds {
        node_ids: vec![String::new(); MAX_ITEMS + 1],
    }));
    assert_eq!(
        refusal(&request).metadata["field"],
        "source.node_ids.node_ids"
    );
}

#[test]
fn token_rules_hold_at_their_edges() {
    let mut input = spark_token::TokenCreateInput {
        issuer_public_key: vec![2; 33],
        token_name: "ä".repeat(20),
        token_ticker: "SIXSIX".into(),
        decimals: 255,
        max_supply: vec![0; 16],
        extra_metadata: Some(vec![0; 1024]),
        ..Default::default()
    };
    assert!(input.validate().is_ok());
    input.token_name.push('x');
    assert_eq!(check(&input).unwrap_err().metadata["field"], "token_name");
    input.token_name.clear();
    input.extra_metadata = Some(vec![0; 1025]);
    assert_eq!(
        check(&input).unwrap_err().metadata["field"],
        "extra_metadata"
    );
    input.extra_metadata = None;
    input.decimals = 256;
    assert_eq!(check(&input).unwrap_err().metadata["field"], "decimals");
}

#[test]
fn an_empty_signature_passes_only_where_the_rule_says_so() {
    let mut signature = spark_token::SignatureWithIndex {
        signature: Some(vec![]),
        ..Default::default()
    };
    assert!(check(&signature).is_ok());
    signature.signature = Some(vec![1; 63]);
    assert!(check(&signature).is_err());
    signature.signature = Some(vec![1; 64]);
    assert!(check(&signature).is_ok());
    let keyed = multisig::KeyedSignature {
        public_key: vec![2; 33],
        signature: vec![],
    };
    assert!(check(&keyed).is_err());
}

#[test]
fn a_required_message_that_is_missing_says_missing() {
    let error = refusal(&multisig::MultisigSignatureSet::default());
    assert_eq!(error.reason, Some(Reason::MissingField));
    assert_eq!(error.metadata["field"], "multisig_config");
}

#[test]
fn days_that_do_not_exist_are_refused() {
    let ask = |day: &str| {
        check(&QuerySparkTransactionVolumesRequest {
            start_date: day.into(),
            end_date: "2026-01-31".into(),
            ..Default::default()
        })
    };
    for day in ["2024-02-29", "2026-12-31", "2000-02-29"] {
        assert_eq!(ask(day), Ok(()), "{day}");
    }
    for day in [
        "",
        "2023-02-29",
        "1900-02-29",
        "2026-13-01",
        "2026-04-31",
        "2026-1-01",
        "+026-01-01",
        "2026-01-01-",
        "２026-01-01",
    ] {
        assert!(ask(day).is_err(), "{day}");
    }
}

#[test]
fn both_ends_of_a_range_are_inside_it() {
    for (size, good) in [(0, true), (1000, true), (1001, false)] {
        let page = PageRequest {
            page_size: size,
            ..Default::default()
        };
        assert_eq!(page.validate().is_ok(), good, "{size}");
    }
    for (size, good) in [(-1, false), (0, true), (1000, true), (1001, false)] {
        let page = PageRequest {
            unsafe_page_size: size,
            ..Default::default()
        };
        assert_eq!(page.validate().is_ok(), good, "{size}");
    }
}
