// Installs the SDKs and makes copies of their sources that jest can run.
"use strict";
const { spawnSync } = require("node:child_process");
const { createHash } = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { HERE, WORK, packageDir, fail } = require("./paths.cjs");

// The SDKs with all they need are about 530 MB. They are kept in the cache,
// one folder per state of package-lock.json, and linked from here: a fresh
// clone finds them installed.
function install() {
  const hash = createHash("sha256");
  const manifests = ["package.json", "package-lock.json"];
  for (const f of manifests) hash.update(fs.readFileSync(path.join(HERE, f)));
  const cache =
    process.env.TINDERBOX_CACHE || path.join(os.homedir(), ".cache/tinderbox");
  const home = path.join(
    cache,
    "conformance",
    hash.digest("hex").slice(0, 12),
  );
  const modules = path.join(home, "node_modules");
  const complete = path.join(home, "complete");
  if (!fs.existsSync(complete)) {
    console.log("installing the SDKs (first use; about 530 MB) ...");
    fs.mkdirSync(home, { recursive: true });
    for (const f of manifests)
      fs.copyFileSync(path.join(HERE, f), path.join(home, f));
    const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    const npm = spawnSync("npm", [...args, "--loglevel=error"], {
      cwd: home,
      stdio: "inherit",
    });
    if (npm.status !== 0)
      fail("npm could not install the SDKs: check the network and run it again");
    fs.writeFileSync(complete, "");
  }
  const link = path.join(HERE, "node_modules");
  const there = fs.lstatSync(link, { throwIfNoEntry: false });
  if (there?.isSymbolicLink() && fs.readlinkSync(link) === modules) return;
  fs.rmSync(link, { recursive: true, force: true });
  fs.symlinkSync(modules, link, "dir");
}

function listFiles(dir) {
  return fs
    .readdirSync(dir, { withFileTypes: true })
    .flatMap((e) =>
      e.isDirectory()
        ? listFiles(path.join(dir, e.name))
        : [path.join(dir, e.name)],
    );
}

function treeHash(dir) {
  if (!fs.existsSync(dir)) return null;
  const hash = createHash("sha256");
  for (const f of listFiles(dir).sort()) {
    hash.update(path.relative(dir, f) + "\0");
    hash.update(createHash("sha256").update(fs.readFileSync(f)).digest());
  }
  return hash.digest("hex");
}

// Copies a package's sources to .work/NAME/src (jest does not handle sources
// under node_modules well). Returns the hash that proves the copy identical.
function stage(name, options) {
  const from = packageDir(name);
  const to = path.join(WORK, name);
  const want = treeHash(path.join(from, "src"));
  if (treeHash(path.join(to, "src")) !== want) {
    fs.rmSync(to, { recursive: true, force: true });
    fs.mkdirSync(to, { recursive: true });
    fs.cpSync(path.join(from, "src"), path.join(to, "src"), {
      recursive: true,
    });
  }
  fs.copyFileSync(
    path.join(from, "package.json"),
    path.join(to, "package.json"),
  );
  // Dependencies that npm nested under the package stay visible to the copy.
  const nested = path.join(from, "node_modules");
  const target =
    fs.existsSync(nested) &&
    !(name === "issuer-sdk" && options.issuerCore === "top")
      ? nested
      : null;
  const link = path.join(to, "node_modules");
  const current = fs.existsSync(link) ? fs.realpathSync(link) : null;
  if (current !== (target && fs.realpathSync(target))) {
    fs.rmSync(link, { recursive: true, force: true });
    if (target) fs.symlinkSync(target, link, "dir");
  }
  return want;
}

// The spark-sdk that the issuer-sdk tests import.
function issuerCoreDir(options) {
  const nested = path.join(
    packageDir("issuer-sdk"),
    "node_modules/@buildonspark/spark-sdk",
  );
  return options.issuerCore === "published" && fs.existsSync(nested)
    ? nested
    : packageDir("spark-sdk");
}

module.exports = { install, stage, issuerCoreDir, listFiles };
