//! Sessions and the test service: no rules beside the fields; sizes are checked by the session
//! code itself, before it hashes.

use super::rule::*;
use super::rules;
use crate::proto::{mock, spark_authn};

rules! {
    spark_authn::GetChallengeRequest {}
    spark_authn::VerifyChallengeRequest {}
    mock::CleanUpPreimageShareRequest {}
    mock::UpdateNodesStatusRequest { node_ids: list }
    mock::TriggerTaskRequest {}
    mock::QueryPreimageShareRequest {}
    mock::ModifyNodeTimelockRequest {}
}
