//! What Spark is: ids, amounts, keys, addresses, invoices, transactions, timelocks and every hash that is signed
