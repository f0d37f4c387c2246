// Builds viewer.bundle.js (one classic script, no network) from viewer.js and three.js, and copies three's licence.
// Run: npm ci && npm run build
import { copyFileSync } from "node:fs";
import { build } from "esbuild";

await build({
  entryPoints: ["viewer.js"],
  outfile: "viewer.bundle.js",
  bundle: true,
  format: "iife",
  minify: true,
  target: "es2020",
  charset: "ascii",
  legalComments: "inline",
  // The bundle stands inside <script>: nothing in it may close that element.
  supported: { "inline-script": false },
});
copyFileSync("node_modules/three/LICENSE", "LICENSE.three.txt");
