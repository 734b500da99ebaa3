// Which test files make up which suite.
"use strict";
const path = require("node:path");
const { packageDir, fail } = require("./paths.cjs");
const { listFiles } = require("./install.cjs");

function suites() {
  const rel = (name) =>
    listFiles(path.join(packageDir(name), "src"))
      .map((f) => path.relative(packageDir(name), f).split(path.sep).join("/"))
      .filter((f) => f.endsWith(".test.ts"))
      .sort()
      .map((file) => ({ package: name, file }));
  const integration = "src/tests/integration/";
  const spark = rel("spark-sdk");
  const issuer = rel("issuer-sdk");
  const tag = (suite, list) => list.map((t) => ({ suite, ...t }));
  const is = (prefix) => (t) => t.file.startsWith(prefix);
  return [
    ...tag(
      "unit",
      [...spark, ...issuer].filter(
        (t) => !is(integration)(t) && !is("src/tests/stress/")(t),
      ),
    ),
    ...tag(
      "core",
      spark.filter((t) => is(integration)(t) && !is(integration + "ssp/")(t)),
    ),
    ...tag("tokens", issuer.filter(is(integration))),
    ...tag("ssp", spark.filter(is(integration + "ssp/"))),
  ];
}

// The files that the command line asks for. Each may bring its own `test`
// pattern: a list file excepts tests by name.
function select(options) {
  const id = (t) => `${t.package}/${t.file}`;
  const chosen = suites().filter(
    (t) =>
      (options.suite === "all" || t.suite === options.suite) &&
      (!options.wanted || options.wanted.has(id(t))) &&
      (!options.files.length || options.files.some((f) => id(t).includes(f))),
  );
  if (!chosen.length) fail("no test file matches");
  for (const name of options.wanted?.keys() ?? [])
    if (!chosen.some((t) => id(t) === name))
      fail(`the list names a file that does not exist: ${name}`);
  return chosen.map((t) => {
    const except = options.wanted?.get(id(t));
    const pattern = except ? `^(?!.*(?:${except}))` : options.test;
    return { ...t, except: except ?? undefined, pattern };
  });
}

module.exports = { select };
