// Runs the official Spark SDKs' own test files, unmodified, against a local
// Spark network. See README.md.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { packageDir, readJson, fail } = require("./lib/paths.cjs");
const { parseArgs } = require("./lib/options.cjs");
const { install, stage, issuerCoreDir } = require("./lib/install.cjs");
const { select } = require("./lib/suites.cjs");
const { networkEnv, endpoints, probe } = require("./lib/network.cjs");
const { runFile } = require("./lib/run-file.cjs");
const { markHollow, markExcepted } = require("./lib/result.cjs");

async function main() {
  const options = parseArgs(process.argv.slice(2));
  if (Number(process.versions.node.split(".")[0]) < 20)
    fail(`Node 20 or newer is needed, this is ${process.version}`);
  install();
  if (options.install) return console.log("the SDKs are installed");
  const selected = select(options);
  if (options.list) {
    for (const t of selected)
      console.log(
        `${t.suite.padEnd(7)}${t.package}/${t.file}` +
          (t.except ? `  except ${t.except}` : ""),
      );
    return;
  }

  if (options.json)
    fs.mkdirSync(path.dirname(options.json), { recursive: true });
  const versions = {};
  const sources = {};
  for (const name of new Set(selected.map((t) => t.package))) {
    versions[name] = readJson(path.join(packageDir(name), "package.json"))
      .version;
    sources[name] = stage(name, options);
  }
  if (versions["issuer-sdk"])
    versions["issuer-sdk uses spark-sdk"] = readJson(
      path.join(issuerCoreDir(options), "package.json"),
    ).version;
  for (const [k, v] of Object.entries(versions)) console.log(`${k} ${v}`);

  const services = [];
  if (selected.some((t) => t.suite !== "unit")) {
    for (const [name, url] of endpoints(networkEnv(options), options)) {
      const up = await probe(url);
      services.push({ name, url, up });
      console.log(`${name} ${url} ${up ? "listens" : "NOT LISTENING"}`);
    }
  }

  const report = {
    started: new Date().toISOString(),
    node: process.version,
    versions,
    sourceSha256: sources,
    config: options.config ? readJson(options.config) : null,
    services,
    totals: null,
    files: [],
  };
  const totals = { passed: 0, failed: 0, skipped: 0, excepted: 0, hollow: 0 };
  report.totals = totals;
  let incomplete = 0;
  for (const test of selected) {
    const r = await runFile(test, options);
    markHollow(r);
    markExcepted(r);
    for (const k of Object.keys(totals)) totals[k] += r[k];
    // A listed file of which nothing passes proves nothing.
    if (options.wanted && !r.passed) r.note ??= "no test passed";
    const bad = r.failed || !r.complete || r.note;
    if (bad) incomplete++;
    report.files.push(r);
    console.log(`${bad ? "FAIL" : "ok  "} ${describe(r)}`);
    if (options.json)
      fs.writeFileSync(options.json, JSON.stringify(report, null, 1) + "\n");
  }
  const real = totals.passed - totals.hollow;
  console.log(
    `${totals.passed} passed, of these ${totals.hollow} hollow ` +
      `(they also pass against operators that give empty answers): ` +
      `passed minus hollow ${real}`,
  );
  console.log(
    `${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped` +
      (options.wanted ? `, ${totals.excepted} excepted by the list` : ""),
  );
  process.exitCode = incomplete ? 1 : 0;
}

// One line about a file: counts, time, and the causes of its failures.
function describe(r) {
  const reasons = {};
  for (const t of r.tests)
    if (t.reason) reasons[t.reason] = (reasons[t.reason] ?? 0) + 1;
  const why = Object.entries(reasons).map(([k, n]) => `${n}x ${k}`);
  if (r.note) why.push(r.note);
  if (r.hollow) why.push(`${r.hollow} of the passed are hollow`);
  if (r.excepted) why.push(`${r.excepted} excepted`);
  return (
    `${r.passed} passed, ${r.failed} failed, ${r.skipped} skipped  ` +
    `${r.seconds}s  ${r.package}/${r.file}` +
    (why.length ? `  [${why.join("; ")}]` : "")
  );
}

main().catch((e) => fail(e.stack ?? String(e)));
