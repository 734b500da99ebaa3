// The environment of a test process and the services that it dials.
"use strict";
const net = require("node:net");
const { readJson } = require("./paths.cjs");

function networkEnv(options) {
  const env = { ...process.env };
  const defaults = {
    NUM_SPARK_OPERATORS: "3",
    SPARK_DANGEROUSLY_DISABLE_TLS_VERIFICATION: "1",
    BITCOIN_RPC_URL: "http://127.0.0.1:8332",
    BITCOIN_RPC_USER: "testutil",
    BITCOIN_RPC_PASSWORD: "testutilpassword",
    SPARK_TEST_FAUCET_NAMESPACE: "local",
  };
  for (const [k, v] of Object.entries(defaults)) env[k] ||= v;
  if (options.config) env.SPARK_TEST_CONFIG = options.config;
  return env;
}

// Unit tests check the SDK's defaults, so they get none of these variables.
function unitEnv() {
  const env = { ...process.env };
  for (const k of Object.keys(env))
    if (/^(SPARK_|BITCOIN_RPC_|NUM_SPARK_|GITHUB_RUN)/.test(k)) delete env[k];
  return env;
}

function endpoints(env, options) {
  const config = options.config ? readJson(options.config) : {};
  const list = [];
  const hermetic = env.SPARK_LOCAL_INGRESS_HOST;
  const operators = config.signingOperators
    ? Object.values(config.signingOperators).map((o) => o.address)
    : Array.from({ length: Number(env.NUM_SPARK_OPERATORS) }, (_, i) =>
        hermetic
          ? `https://${i}.spark.minikube.local`
          : `https://localhost:${8535 + i}`,
      );
  operators.forEach((url, i) => list.push([`operator ${i}`, url]));
  list.push(["bitcoind RPC", env.BITCOIN_RPC_URL]);
  list.push([
    "SSP",
    config.sspClientOptions?.baseUrl ??
      (hermetic ? "http://app.minikube.local" : "http://127.0.0.1:5000"),
  ]);
  return list;
}

function probe(url) {
  const { hostname, port, protocol } = new URL(url);
  return new Promise((resolve) => {
    const s = net.connect({
      host: hostname.replace(/^\[|\]$/g, ""),
      port: Number(port) || (protocol === "https:" ? 443 : 80),
    });
    const end = (up) => (s.destroy(), resolve(up));
    s.once("connect", () => end(true));
    s.once("error", () => end(false));
    s.setTimeout(1500, () => end(false));
  });
}

module.exports = { networkEnv, unitEnv, endpoints, probe };
