use tinderbox_protocol::bolt11::LightningInvoice;
use tinderbox_protocol::{LeafId, Network, SparkAddress, SparkInvoice, TransferId, WalletKeys};

pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(address) = text.parse::<SparkAddress>() {
        // One address, one text.
        let again = address.to_string().parse::<SparkAddress>();
        assert_eq!(again.ok().as_ref(), Some(&address));
    }
    let _ = SparkAddress::from_taproot(text);
    if let Ok(invoice) = text.parse::<SparkInvoice>() {
        let _ = format!("{invoice:?}");
    }
    let _ = LightningInvoice::parse(text);
    if let Ok(id) = text.parse::<LeafId>() {
        assert_eq!(id.to_string().parse::<LeafId>().ok(), Some(id));
    }
    let _ = text.parse::<TransferId>();
    let _ = text.parse::<Network>();
    for network in [Network::Mainnet, Network::Regtest] {
        let _ = SparkAddress::parse_for(text, network);
    }
    // Deriving keys is slow, and only words make any.
    if text.split_whitespace().count() < 25 && text.len() < 300 {
        let _ = WalletKeys::from_text(text, Network::Regtest, None);
    }
    let _ = tinderbox_frost::OperatorIndex::from_identifier(text);
}
