//! Generated servers with our message limits applied, to be collected in
//! [`tonic::service::Routes`].

use super::Settings;
use crate::proto;
use crate::proto::mock::mock_service_server::{MockService, MockServiceServer};
use crate::proto::spark::spark_service_server::{SparkService, SparkServiceServer};
use crate::proto::spark_authn::spark_authn_service_server::{
    SparkAuthnService, SparkAuthnServiceServer,
};
use crate::proto::spark_ssp_internal::spark_ssp_internal_service_server::{
    SparkSspInternalService, SparkSspInternalServiceServer,
};
use crate::proto::spark_token::spark_token_service_server::{
    SparkTokenService, SparkTokenServiceServer,
};
use proto::peer::peer_service_server::{PeerService, PeerServiceServer};

/// `spark.SparkService` around `handler`.
pub fn spark<T: SparkService>(handler: T, settings: &Settings) -> SparkServiceServer<T> {
    SparkServiceServer::new(handler).max_decoding_message_size(settings.request_bytes)
}

/// `spark_authn.SparkAuthnService` around `handler`.
pub fn authn<T: SparkAuthnService>(handler: T, settings: &Settings) -> SparkAuthnServiceServer<T> {
    SparkAuthnServiceServer::new(handler).max_decoding_message_size(settings.request_bytes)
}

/// `spark_token.SparkTokenService` around `handler`.
pub fn token<T: SparkTokenService>(handler: T, settings: &Settings) -> SparkTokenServiceServer<T> {
    SparkTokenServiceServer::new(handler).max_decoding_message_size(settings.request_bytes)
}

/// `spark_ssp_internal.SparkSspInternalService` around `handler`.
pub fn ssp<T: SparkSspInternalService>(
    handler: T,
    settings: &Settings,
) -> SparkSspInternalServiceServer<T> {
    SparkSspInternalServiceServer::new(handler).max_decoding_message_size(settings.request_bytes)
}

/// `mock.MockService` around `handler`. For local networks only.
pub fn mock<T: MockService>(handler: T, settings: &Settings) -> MockServiceServer<T> {
    MockServiceServer::new(handler).max_decoding_message_size(settings.request_bytes)
}

/// `tinderbox.peer.v1.PeerService` around `handler`. For the operators' own listener only.
pub fn peer<T: PeerService>(handler: T, settings: &Settings) -> PeerServiceServer<T> {
    PeerServiceServer::new(handler).max_decoding_message_size(settings.request_bytes)
}
