// The command line and list files.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { fail } = require("./paths.cjs");

const USAGE = `usage: conformance/run [--suite core|ssp|tokens|unit|all] [--file NAME]
           [--list-file FILE] [--test PATTERN] [--json OUT] [--config FILE]
           [--limit SECONDS] [--list] [--install]
           [--issuer-core published|top] [--verbose]

  --suite   core    integration tests of spark-sdk without an SSP (default)
            ssp     those that need an SSP
            tokens  integration tests of issuer-sdk
            unit    unit tests of both packages (no network needed)
            all     all of the above
  --file    only files whose path contains NAME (repeatable; alone it searches
            all suites)
  --list-file  exactly the files that FILE lists, and of them only the tests
            that it does not except; every other one must pass
  --test    only tests whose full name matches the regular expression PATTERN
  --json    write every test's name and status to OUT
  --config  JSON laid over the SDK's LOCAL network settings (ConfigOptions)
  --limit   time limit per test file in seconds (default 1200)
  --list    print the files that would run, and stop
  --install install the SDKs, and stop
  --issuer-core  the spark-sdk that issuer-sdk's tests use: 'published' is the
            version that issuer-sdk pins (default), 'top' the newest
  --verbose show the test runner's output (it is kept in .work/logs/ anyway)`;

const SUITES = ["core", "ssp", "tokens", "unit", "all"];

function parseArgs(argv) {
  const o = { suite: null, files: [], wanted: null, json: null, test: null };
  Object.assign(o, { config: null, limit: 1200, issuerCore: "published" });
  for (let i = 0; i < argv.length; i++) {
    const a = argv[i];
    const value = () => argv[++i] ?? fail(`${a} needs a value\n\n${USAGE}`);
    if (a === "--suite") o.suite = value();
    else if (a === "--file") o.files.push(value());
    else if (a === "--list-file") o.wanted = readListFile(value());
    else if (a === "--json") o.json = path.resolve(value());
    else if (a === "--test") o.test = value();
    else if (a === "--config") o.config = path.resolve(value());
    else if (a === "--limit") o.limit = Number(value());
    else if (a === "--issuer-core") o.issuerCore = value();
    else if (a === "--list") o.list = true;
    else if (a === "--install") o.install = true;
    else if (a === "--verbose") o.verbose = true;
    else if (a === "-h" || a === "--help") console.log(USAGE), process.exit(0);
    else fail(`unknown argument ${a}\n\n${USAGE}`);
  }
  if (o.wanted && (o.suite || o.files.length || o.test))
    fail("--list-file says itself what runs: leave out --suite, --file and --test");
  o.suite ??= o.files.length || o.wanted ? "all" : "core";
  if (!SUITES.includes(o.suite)) fail(`unknown suite ${o.suite}\n\n${USAGE}`);
  if (!["published", "top"].includes(o.issuerCore)) fail(USAGE);
  if (!(o.limit > 0)) fail("--limit must be a positive number of seconds");
  if (o.config && !fs.existsSync(o.config)) fail(`no such file: ${o.config}`);
  return o;
}

// Lines of a list file: `PACKAGE/PATH`, and if some tests of the file cannot
// pass yet, `PACKAGE/PATH except REGULAR-EXPRESSION` on their full names.
function readListFile(file) {
  if (!fs.existsSync(file)) fail(`no such file: ${file}`);
  const wanted = new Map();
  for (const raw of fs.readFileSync(file, "utf8").split("\n")) {
    const line = raw.replace(/(^|\s)#.*/, "").trim();
    if (!line) continue;
    const [, name, except] = line.match(/^(\S+)(?:\s+except\s+(.+))?$/) ?? [];
    if (!name) fail(`${file}: cannot read the line: ${raw}`);
    wanted.set(name, except ?? null);
  }
  if (!wanted.size) fail(`${file} lists nothing`);
  return wanted;
}

module.exports = { parseArgs };
