// Makes two wallets with the official SDK on a local network and prints what
// they are. Started by ../wallet-smoke; an argument names overrides in JSON.
import { readFileSync } from "node:fs";

process.env.SPARK_DANGEROUSLY_DISABLE_TLS_VERIFICATION ??= "1"; // self-signed
const { SparkWallet } = await import("@buildonspark/spark-sdk");

const file = process.argv[2];
const overrides = file ? JSON.parse(readFileSync(file, "utf8")) : {};
const options = { ...overrides, network: "LOCAL" };

try {
  for (const name of ["alice", "bob"]) {
    const { wallet, mnemonic } = await SparkWallet.initialize({ options });
    const { balance } = await wallet.getBalance();
    console.log(`${name}: ${mnemonic}`);
    console.log(`  identity key    ${await wallet.getIdentityPublicKey()}`);
    console.log(`  spark address   ${await wallet.getSparkAddress()}`);
    console.log(`  balance         ${balance} sats`);
    console.log(`  deposit address ${await wallet.getSingleUseDepositAddress()}`);
    console.log(`  static deposit  ${await wallet.getStaticDepositAddress()}`);
    await wallet.cleanupConnections();
  }
  console.log("ok");
} catch (error) {
  console.error(`failed: ${error.message}`);
  process.exitCode = 1;
}
process.exit();
