use tinderbox_flows::record::Row;
use tinderbox_flows::rows::{
    AddressRow, ChainRow, DefaultAddressRow, FlowRow, KeyshareRow, NodeRow, SettingRow,
    TransferRow, TreeRow, UtxoHoldRow, UtxoRow, UtxoSwapRow,
};

/// A row that can be read can be listed and written again.
fn read<R: Row>(id: &[u8], body: &[u8]) {
    if let Ok(row) = R::decode(id, body) {
        let _ = (row.id(), row.listed());
        if let Ok(body) = row.encode() {
            assert!(R::decode(&row.id(), &body).is_ok(), "written, not readable");
        }
    }
}

const ROWS: [fn(&[u8], &[u8]); 12] = [
    read::<FlowRow>,
    read::<NodeRow>,
    read::<TransferRow>,
    read::<KeyshareRow>,
    read::<AddressRow>,
    read::<DefaultAddressRow>,
    read::<ChainRow>,
    read::<SettingRow>,
    read::<TreeRow>,
    read::<UtxoRow>,
    read::<UtxoHoldRow>,
    read::<UtxoSwapRow>,
];

pub(super) fn run(data: &[u8]) {
    let Some((choice, bytes)) = super::chosen(data) else {
        return;
    };
    let (id, body) = bytes.split_at(bytes.len().min(16));
    ROWS[choice % ROWS.len()](id, body);
}
