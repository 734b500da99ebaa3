// Runs one test file in a process of its own.
"use strict";
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const { HERE, WORK } = require("./paths.cjs");
const { issuerCoreDir } = require("./install.cjs");
const { networkEnv, unitEnv } = require("./network.cjs");
const { collect } = require("./result.cjs");

const readLines = (f) =>
  fs.existsSync(f)
    ? fs
        .readFileSync(f, "utf8")
        .split("\n")
        .filter(Boolean)
        .map((l) => JSON.parse(l))
    : [];

function runFile(test, options) {
  const root = path.join(WORK, test.package);
  const id = `${test.package}/${test.file}`.replace(/[^\w.-]+/g, "_");
  const at = (dir, ext) => {
    fs.mkdirSync(path.join(WORK, dir), { recursive: true });
    const f = path.join(WORK, dir, id + ext);
    fs.rmSync(f, { force: true });
    return f;
  };
  const events = at("events", ".jsonl");
  const sockets = at("net", ".jsonl");
  const log = at("logs", ".log");
  const env = test.suite === "unit" ? unitEnv() : networkEnv(options);
  Object.assign(env, {
    SPARK_TEST_ROOT: root,
    SPARK_TEST_EVENTS: events,
    SPARK_TEST_NET: sockets,
    FORCE_COLOR: "0",
  });
  // What lib/setup.mjs loads: the staged sources, or the compiled SDK.
  env.SPARK_TEST_SRC =
    test.package === "spark-sdk" ? path.join(root, "src") : "";
  env.SPARK_TEST_SDK = path.join(issuerCoreDir(options), "dist/index.node.js");
  const args = ["--experimental-vm-modules"];
  args.push("--require", path.join(HERE, "lib", "net-trace.cjs"));
  args.push(path.join(HERE, "node_modules", "jest", "bin", "jest.js"));
  args.push("--config", path.join(HERE, "jest.config.cjs"));
  args.push("--runInBand", "--forceExit");
  if (test.pattern) args.push("--testNamePattern", test.pattern);
  args.push("--runTestsByPath", path.join(root, test.file));

  return new Promise((resolve) => {
    const started = Date.now();
    const fd = fs.openSync(log, "w");
    const child = spawn(process.execPath, args, {
      cwd: HERE,
      env,
      detached: true, // own process group, so that the limit stops all of it
      stdio: options.verbose ? "inherit" : ["ignore", fd, fd],
    });
    const stop = (signal) => {
      try {
        process.kill(-child.pid, signal);
      } catch {}
    };
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      stop("SIGKILL");
    }, options.limit * 1000);
    const interrupt = () => (stop("SIGKILL"), process.exit(130));
    process.once("SIGINT", interrupt);
    process.once("SIGTERM", interrupt);
    child.on("close", (code) => {
      clearTimeout(timer);
      process.off("SIGINT", interrupt);
      process.off("SIGTERM", interrupt);
      fs.closeSync(fd);
      const seconds = Math.round((Date.now() - started) / 100) / 10;
      resolve({
        ...test,
        seconds,
        log: path.relative(HERE, log),
        ...collect(readLines(events), readLines(sockets), {
          timedOut,
          code,
          limit: options.limit,
        }),
      });
    });
  });
}

module.exports = { runFile };
