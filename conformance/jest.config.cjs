// Jest settings for the copies of the SDK sources under .work/. The SDK ships
// none; these match what its package.json scripts expect (ts-jest, ESM, node).
const path = require("node:path");

const work = path.join(__dirname, ".work");

module.exports = {
  rootDir: process.env.SPARK_TEST_ROOT ?? path.join(work, "spark-sdk"),
  roots: ["<rootDir>/src"],
  testMatch: ["**/*.test.ts"],
  testEnvironment: "node",
  extensionsToTreatAsEsm: [".ts"],
  moduleNameMapper: {
    // Sources import "./x.js" where the file on disk is "./x.ts".
    "^(\\.{1,2}/.*)\\.js$": "$1",
    "^react-native$": path.join(__dirname, "lib", "react-native-stub.mjs"),
  },
  transform: {
    "^.+\\.tsx?$": [
      "ts-jest",
      {
        useESM: true,
        diagnostics: false,
        tsconfig: {
          target: "ES2022",
          module: "ESNext",
          moduleResolution: "bundler",
          isolatedModules: true,
          esModuleInterop: true,
          resolveJsonModule: true,
          skipLibCheck: true,
          types: [],
        },
      },
    ],
  },
  setupFilesAfterEnv: [path.join(__dirname, "lib", "setup.mjs")],
  reporters: ["default", path.join(__dirname, "lib", "reporter.cjs")],
  cacheDirectory: path.join(work, "jest-cache"),
};
