// Sampling under a budget of block passes: what fpdm's own sampler does, with the three graphs of an export.

/** Divide, and round halves to even, as Python does. */
function roundHalfEven(numerator, denominator) {
  const floor = Math.floor(numerator / denominator), rest = 2 * (numerator - floor * denominator);
  return rest > denominator || (rest === denominator && floor % 2) ? floor + 1 : floor;
}

/** Timesteps spaced evenly down from the last, noisiest first. */
export function trailing(total, steps) {
  return Array.from({ length: steps }, (_, k) => roundHalfEven(total * (steps - k), steps) - 1);
}

/** Split `total` iterations over steps by increasing weights, at least one each: the method of largest remainders. */
function share(total, weights) {
  const steps = weights.length, table = Array(steps).fill(1);
  for (let start = 0; start < steps; start++) {
    const left = total - start, sum = weights.slice(start).reduce((a, b) => a + b, 0);
    if (left * weights[start] < sum) continue; // its share is below one
    const rests = [];
    for (let k = start; k < steps; k++) {
      table[k] = Math.floor((left * weights[k]) / sum);
      rests.push([left * weights[k] - table[k] * sum, k]);
    }
    rests.sort((a, b) => b[0] - a[0] || b[1] - a[1]); // of equal rests the cleaner step's first
    const short = total - table.reduce((a, b) => a + b, 0);
    for (const [, k] of rests.slice(0, short)) table[k]++;
    break;
  }
  return table;
}

/** Spend a budget: the timesteps, and how often the middle is iterated at each. */
export function plan(record, { budget, iterations, allocation = "constant" }) {
  const { passes_outside: outside, passes_per_application: each, applications } = record.cost;
  const count = applications ?? iterations;
  const steps = Math.min(Math.floor(budget / (outside + count * each)), record.schedule.num_timesteps);
  if (steps < 1) throw new Error(`a budget of ${budget} is below one step of ${outside + count * each} block passes`);
  const timesteps = trailing(record.schedule.num_timesteps, steps);
  let table = Array(steps).fill(count);
  if (applications === null) {
    const total = Math.floor((budget - steps * outside) / each);
    const rising = steps > 1 ? timesteps.map((_, k) => steps - 1 + 2 * k) : [1];
    table = share(total, allocation === "constant" ? Array(steps).fill(1) : rising);
    if (allocation === "decreasing") table.reverse();
  }
  const sum = table.reduce((a, b) => a + b, 0);
  return {
    timesteps,
    table,
    passes: steps * outside + sum * each,
    macs: steps * record.cost.macs_outside + sum * record.cost.macs_per_application + record.cost.decoding_macs,
  };
}

/**
 * Draw an image step by step. `run(graph, tensors)` evaluates a graph; tensors are {data, dims}.
 *
 * Yields { step, iteration, x0 } after every step, and with `every` after every iteration as well, where `x0()` makes
 * the estimate of the finished image at that depth (which costs more than the plan, and is for looking at only).
 */
export async function* sample(record, run, { timesteps, table }, { noise, label, reuse = true, every = false }) {
  const { alphas_bar: bars, prediction } = record.schedule, dims = [1, ...record.sample_shape], size = noise.length;
  const clip = (value) => (record.clip === null ? value : Math.min(Math.max(value, -record.clip), record.clip));
  let x = Float32Array.from(noise), z = null;
  for (let step = 0; step < timesteps.length; step++) {
    const t = timesteps[step], u = timesteps[step + 1] ?? -1;
    const [a, s, aNext, sNext] = [t, u].flatMap((at) => [Math.sqrt(bars[at + 1]), Math.sqrt(1 - bars[at + 1])]);
    const known = await run("start", {
      x: { data: x, dims },
      t: { data: Float32Array.of(t), dims: [1] },
      y: { data: BigInt64Array.of(BigInt(label)), dims: [1] },
    });
    if (reuse && z && record.cost.applications === null) known.z = z; // a stack has no solution to start from
    const before = x;
    const estimate = async () => {
      const { prediction: out } = await run("finish", known);
      return Float32Array.from({ length: size }, (_, i) => {
        const v = prediction === "v" ? out.data[i] : (out.data[i] - s * before[i]) / a;
        return clip(a * before[i] - s * v);
      });
    };
    for (let iteration = 0; iteration < table[step]; iteration++) {
      known.z = (await run("iterate", known)).z_next;
      if (every && iteration + 1 < table[step]) yield { step, iteration, x0: estimate };
    }
    z = known.z;
    const x0 = await estimate();
    x = Float32Array.from(before, (value, i) => aNext * x0[i] + sNext * ((value - a * x0[i]) / s));
    yield { step, iteration: table[step] - 1, x0: async () => x0 };
  }
  return x;
}

/** Decode a sample to an image (C, H, W), approximately in [-1, 1]. */
export async function decode(record, run, latents) {
  if (!record.graphs.decode) return latents;
  return (await run("decode", { latents: { data: latents, dims: [1, ...record.sample_shape] } })).images.data;
}
