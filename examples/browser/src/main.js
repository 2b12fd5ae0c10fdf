import * as ort from "onnxruntime-web/wasm";
import { normal } from "./noise.js";
import { decode, plan, sample } from "./sampler.js";

ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
ort.env.wasm.numThreads = 1; // threads need headers that a plain file server does not send

const at = (id) => document.getElementById(id);
const read = () => ({
  budget: Number(at("budget").value),
  iterations: Number(at("iterations").value),
  allocation: at("allocation").value,
});
let record, sessions, stopped = false;

async function load() {
  record = await (await fetch("model/model.json")).json();
  sessions = {};
  for (const [name, graph] of Object.entries(record.graphs)) {
    at("status").textContent = `Loading ${graph.file} (${(graph.bytes / 1e6).toFixed(1)} MB)…`;
    sessions[name] = await ort.InferenceSession.create(`model/${graph.file}`, { executionProviders: ["wasm"] });
  }
  const size = Object.values(record.graphs).reduce((sum, graph) => sum + graph.bytes, 0);
  at("about").textContent = `${record.name}, ${(size / 1e6).toFixed(1)} MB`;
  const names = record.classes.length ? record.classes : Array.from({ length: record.num_classes }, (_, i) => `${i}`);
  at("label").replaceChildren(...(names.length ? names : ["all"]).map((name, i) => new Option(name, i)));
  at("go").disabled = false;
  at("status").textContent = "Ready.";
}

async function run(name, tensors) {
  const session = sessions[name];
  const given = Object.fromEntries(session.inputNames.map((input) => {
    const { data, dims } = tensors[input];
    return [input, new ort.Tensor(data instanceof BigInt64Array ? "int64" : "float32", data, dims)];
  }));
  const found = await session.run(given);
  return Object.fromEntries(session.outputNames.map((one) => [one, { data: found[one].data, dims: found[one].dims }]));
}

/** Draw an image (C, H, W) in [-1, 1] into a canvas at a place, in its own pixels. */
function paint(canvas, image, left = 0, top = 0) {
  const [channels, height, width] = record.image_shape, pixels = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++)
      pixels.data[4 * i + c] = Math.round((Math.min(Math.max(image[(c % channels) * height * width + i], -1), 1) + 1) * 127.5);
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, left, top);
}

function describe({ timesteps, table, passes }) {
  const least = Math.min(...table), most = Math.max(...table);
  const each = least === most ? `${most}` : `${least} to ${most}`;
  return `${timesteps.length} ${timesteps.length === 1 ? "step" : "steps"} x ${each} ` +
    `${most === 1 ? "iteration" : "iterations"}, ${passes} block passes`;
}

/** Show what the sliders mean: a bar for each step, as high as its iterations. */
function show() {
  at("budget-text").textContent = `${at("budget").value} block passes`;
  at("iterations-text").textContent = at("iterations").value;
  const canvas = at("bars"), context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  try {
    const chosen = plan(record, read()), highest = Math.max(10, ...chosen.table);
    const width = canvas.width / chosen.table.length;
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    chosen.table.forEach((count, k) => {
      const height = (canvas.height * count) / highest;
      context.fillRect(k * width, canvas.height - height, Math.max(width - Math.min(2, width / 4), 0.5), height);
    });
    at("plan").textContent = `${describe(chosen)}. One bar for each step, from noise to the clean image.`;
    canvas.setAttribute("aria-label", `Iterations of each step: ${chosen.table.join(", ")}`);
    return chosen;
  } catch (error) {
    at("plan").textContent = `${error.message}: raise the budget or lower the iterations.`;
    return null;
  }
}

/** Draw the image that the controls describe; returns its values (C, H, W), or null if it was stopped. */
async function draw() {
  const chosen = show(), seed = at("seed").value, label = Number(at("label").value), every = at("every").checked;
  if (!chosen) return null;
  const [, height, width] = record.image_shape, depths = at("depths"), rows = every ? Math.max(...chosen.table) : 1;
  depths.width = chosen.table.length * (width + 1);
  depths.height = rows * (height + 1);
  depths.style.width = `${Math.max(depths.width, Math.min(3 * depths.width, depths.parentElement.clientWidth))}px`;
  const size = record.sample_shape.reduce((a, b) => a * b), noise = normal(size, seed, 0);
  let spent = 0, x0, since = performance.now();
  const steps = sample(record, run, chosen, { noise, label, reuse: at("reuse").checked, every });
  for (;;) {
    const { value, done } = await steps.next();
    spent += performance.now() - since;
    if (done) {
      since = performance.now();
      const image = await decode(record, run, value);
      spent += performance.now() - since;
      paint(at("image"), image);
      const text = `${describe(chosen)}, ${(chosen.macs / 1e6).toFixed(0)} million multiply-accumulates, ` +
        `${(spent / 1000).toFixed(2)} s without previews`;
      at("spent").textContent = text;
      remember(image, chosen, seed);
      return image;
    }
    x0 = await decode(record, run, await value.x0());
    paint(depths, x0, value.step * (width + 1), (every ? value.iteration : 0) * (height + 1));
    paint(at("image"), x0);
    at("spent").textContent = at("status").textContent = `Step ${value.step + 1} of ${chosen.table.length}`;
    await new Promise((next) => setTimeout(next)); // let the page draw, and hear the buttons
    if (stopped) return null;
    since = performance.now();
  }
}

function remember(image, chosen, seed) {
  const item = document.createElement("li"), canvas = document.createElement("canvas");
  [, canvas.height, canvas.width] = record.image_shape;
  paint(canvas, image);
  const name = at("label").selectedOptions[0].text;
  item.append(canvas, `${name}, seed ${seed}: ${describe(chosen)}`);
  at("history").prepend(item);
}

at("controls").addEventListener("input", () => record && show());
at("controls").addEventListener("submit", async (event) => {
  event.preventDefault();
  stopped = false;
  at("go").disabled = true;
  at("stop").disabled = false;
  at("status").className = "";
  try {
    const image = await draw();
    at("status").textContent = image ? "Done." : stopped ? "Stopped." : "This budget does not pay for one step.";
    window.lastImage = image; // for tests
  } catch (error) {
    at("status").textContent = `It failed: ${error.message}`;
    at("status").className = "wrong";
  }
  at("go").disabled = false;
  at("stop").disabled = true;
});
at("stop").addEventListener("click", () => (stopped = true));

load().then(show, (error) => {
  at("status").textContent = `The model cannot be loaded: ${error.message}`;
  at("status").className = "wrong";
});
