// What a test process reported, counted and explained.
"use strict";
const { createHash } = require("node:crypto");
const path = require("node:path");
const { HERE, readJson } = require("./paths.cjs");

function classify(message) {
  const bitcoin = message.match(/bitcoinRpcMethod: (\w+)/)?.[1];
  const graphql = /GraphQL|graphql/.test(message);
  if (/ECONNREFUSED|No connection established|fetch failed/.test(message))
    return `unreachable ${bitcoin ? "bitcoind" : graphql ? "SSP" : "operator"}`;
  const rpc = message.match(/(\/[\w.]+\/\w+) ([A-Z_]{4,}):/);
  if (rpc) return `grpc ${rpc[2]} ${rpc[1]}`;
  if (bitcoin) return `bitcoind ${bitcoin}`;
  const operation = message.match(/Request (\w+) failed/)?.[1];
  if (operation) return `SSP ${operation}`;
  if (/Exceeded timeout of/.test(message)) return "timeout";
  if (/expect\(|JestAssertionError/.test(message)) return "assertion";
  return "error";
}

function collect(events, sockets, end) {
  const tests = [];
  const running = [];
  let finished = false;
  let note = null;
  for (const e of events) {
    if (e.type === "start") running.push(e.name);
    else if (e.type === "result") {
      const i = running.indexOf(e.name);
      if (i >= 0) running.splice(i, 1);
      const status =
        e.status === "passed" || e.status === "failed" ? e.status : "skipped";
      const t = { name: e.name, status, ms: e.ms };
      if (status === "failed") {
        const text = e.messages.join("\n");
        t.reason = classify(text);
        t.message = text.slice(0, 4000);
      }
      tests.push(t);
    } else if (e.type === "end") {
      finished = true;
      const text = e.error ?? e.failureMessage;
      if (text && !tests.length) {
        note = "did not load";
        tests.push({
          name: "(whole file)",
          status: "failed",
          ms: null,
          reason: `load: ${classify(text)}`,
          message: text.slice(0, 4000),
        });
      }
    }
  }
  if (!finished) {
    note = end.timedOut
      ? `stopped at the limit of ${end.limit} s; later tests not run`
      : `test process ended early (exit code ${end.code})`;
    for (const name of running.length ? running : ["(whole file)"])
      tests.push({ name, status: "failed", ms: null, reason: "stopped" });
  }
  const count = (s) => tests.filter((t) => t.status === s).length;
  const dialled = {};
  for (const { address, outcome } of sockets) {
    dialled[address] ??= {};
    dialled[address][outcome] = (dialled[address][outcome] ?? 0) + 1;
  }
  return {
    passed: count("passed"),
    failed: count("failed"),
    skipped: count("skipped"),
    complete: finished,
    note,
    dialled,
    tests,
  };
}

// Tests known to pass against operators that only authenticate and give empty
// answers (first 12 hex digits of the SHA-256 of the test's full name).
const HOLLOW = readJson(path.join(HERE, "hollow.json"));

function markHollow(r) {
  const known = new Set(HOLLOW[`${r.package}/${r.file}`] ?? []);
  r.hollow = 0;
  for (const t of r.tests) {
    const id = createHash("sha256").update(t.name).digest("hex").slice(0, 12);
    if (t.status === "passed" && known.has(id)) {
      t.hollow = true;
      r.hollow++;
    }
  }
}

// Tests that the list file leaves out for now are told apart from those that
// the vendor skips.
function markExcepted(r) {
  r.excepted = 0;
  if (!r.except) return;
  const except = new RegExp(r.except, "i"); // as the test runner matches
  for (const t of r.tests) {
    if (t.status !== "skipped" || !except.test(t.name)) continue;
    t.status = "excepted";
    r.skipped--;
    r.excepted++;
  }
}

module.exports = { collect, markHollow, markExcepted };
