// Where things are.
"use strict";
const fs = require("node:fs");
const path = require("node:path");

const HERE = path.join(__dirname, "..");
const WORK = path.join(HERE, ".work");

const readJson = (p) => JSON.parse(fs.readFileSync(p, "utf8"));
const packageDir = (name) =>
  path.join(HERE, "node_modules", "@buildonspark", name);

function fail(message) {
  console.error(message);
  process.exit(2);
}

module.exports = { HERE, WORK, readJson, packageDir, fail };
