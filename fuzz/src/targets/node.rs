use tinderbox_chain::rpc::types::{
    BlockHeader, BlockchainInfo, FeeEstimate, MempoolEntry, MempoolInfo, MempoolVerdict,
    NetworkInfo, PackageAnswer, RawTransaction, ScanAnswer, SpendingPrevout, TipAnswer, TxOutInfo,
};

macro_rules! answers {
    ($($answer:ty),+ $(,)?) => {
        &[$(|bytes: &[u8]| { let _ = serde_json::from_slice::<$answer>(bytes); }),+]
    };
}

const ANSWERS: &[fn(&[u8])] = answers![
    BlockchainInfo,
    NetworkInfo,
    BlockHeader,
    TxOutInfo,
    RawTransaction,
    MempoolEntry,
    MempoolInfo,
    FeeEstimate,
    Vec<MempoolVerdict>,
    PackageAnswer,
    Vec<SpendingPrevout>,
    ScanAnswer,
    TipAnswer,
];

pub(super) fn run(data: &[u8]) {
    for read in ANSWERS {
        read(data);
    }
    // A block and a transaction, as hexadecimal digits.
    if let Ok(bytes) = hex::decode(data) {
        let _ = bitcoin::consensus::deserialize::<bitcoin::Block>(&bytes);
        let _ = bitcoin::consensus::deserialize::<bitcoin::Transaction>(&bytes);
    }
}
