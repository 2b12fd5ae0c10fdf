// Bundle the page, and put the runtime and the exported model beside it: everything that it loads is in dist/.
import { cp, mkdir, rm, stat } from "node:fs/promises";
import { build } from "esbuild";

const here = new URL(".", import.meta.url);
const file = (path) => new URL(path, here);

await stat(file("model/model.json")).catch(() => {
  console.error("there is no model: fpdm export fpdm-fashion --budget 140 --out model");
  process.exit(2);
});
await rm(file("dist"), { recursive: true, force: true });
await mkdir(file("dist"), { recursive: true });
await build({
  absWorkingDir: decodeURI(here.pathname),
  entryPoints: ["src/main.js"],
  outfile: "dist/main.js",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
});
for (const name of ["index.html", "style.css"]) await cp(file(`src/${name}`), file(`dist/${name}`));
for (const name of ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"])
  await cp(file(`node_modules/onnxruntime-web/dist/${name}`), file(`dist/${name}`));
await cp(file("model"), file("dist/model"), { recursive: true, filter: (path) => !/\/\.[^/]+$/.test(path) });
