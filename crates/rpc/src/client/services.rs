//! Generated clients with our message limits applied.

use tonic::transport::Channel;

use crate::proto::mock::mock_service_client::MockServiceClient;
use crate::proto::peer::peer_service_client::PeerServiceClient;
use crate::proto::spark::spark_service_client::SparkServiceClient;
use crate::proto::spark_authn::spark_authn_service_client::SparkAuthnServiceClient;
use crate::proto::spark_ssp_internal::spark_ssp_internal_service_client::SparkSspInternalServiceClient;
use crate::proto::spark_token::spark_token_service_client::SparkTokenServiceClient;

/// Largest message of a wallet's connection, in bytes, in each direction.
pub const MESSAGE_BYTES: usize = 20 * 1024 * 1024;

/// Largest message between operators, in bytes: many wallets' packages travel in one.
const PEER_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident: $client:ident, $limit:ident;)*) => {
        $($(#[$doc])* pub fn $name(channel: Channel) -> $client<Channel> {
            $client::new(channel)
                .max_decoding_message_size($limit)
                .max_encoding_message_size($limit)
        })*
    };
}

clients! {
    /// Client of `spark.SparkService`.
    spark: SparkServiceClient, MESSAGE_BYTES;
    /// Client of `spark_authn.SparkAuthnService`.
    authn: SparkAuthnServiceClient, MESSAGE_BYTES;
    /// Client of `spark_token.SparkTokenService`.
    token: SparkTokenServiceClient, MESSAGE_BYTES;
    /// Client of `spark_ssp_internal.SparkSspInternalService`.
    ssp: SparkSspInternalServiceClient, MESSAGE_BYTES;
    /// Client of `mock.MockService`, of local networks.
    mock: MockServiceClient, MESSAGE_BYTES;
    /// Client of `tinderbox.peer.v1.PeerService`.
    peer: PeerServiceClient, PEER_MESSAGE_BYTES;
}
