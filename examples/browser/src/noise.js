// The noise of fpdm: numpy's Philox4x64-10 and its ziggurat for float32, so that a seed means the same image here.

const MASK = (1n << 64n) - 1n;
const M0 = 0xd2e7470ee14c6c93n, M1 = 0xca5a826395121157n; // multipliers (Salmon et al. 2011)
const W0 = 0x9e3779b97f4a7c15n, W1 = 0xbb67ae8584caa73bn; // increments of the key

/** Return the four 64-bit words of a counter (4 BigInts) under a key (2 BigInts). */
export function philox(counter, key) {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const p0 = M0 * c0, p1 = M1 * c2;
    [c0, c1, c2, c3] = [(p1 >> 64n) ^ c1 ^ k0, p1 & MASK, (p0 >> 64n) ^ c3 ^ k1, p0 & MASK];
    k0 = (k0 + W0) & MASK;
    k1 = (k1 + W1) & MASK;
  }
  return [c0, c1, c2, c3];
}

/** Create a function that returns the 32-bit words of numpy's generator, the low half of each 64-bit word first. */
export function words(seed, step, index) {
  const key = [BigInt(seed), 1n]; // stream 1: samples
  let position = 0n, queue = [];
  return () => {
    if (!queue.length) {
      position += 1n; // numpy advances the counter before it uses it
      for (const word of philox([position & MASK, position >> 64n, BigInt(step), BigInt(index)], key))
        queue.push(Number(word & 0xffffffffn), Number(word >> 32n));
    }
    return queue.shift();
  };
}

const R = 3.6541528853610088, AREA = 0.00492867323399; // of the 256 layers (Marsaglia and Tsang 2000)
const layers = (() => {
  const density = (x) => Math.exp(-0.5 * x * x), scale = 2 ** 23;
  const x = new Float64Array(256);
  x[255] = R;
  for (let i = 254; i > 0; i--) x[i] = Math.sqrt(-2 * Math.log(AREA / x[i + 1] + density(x[i + 1])));
  const base = AREA / density(R);
  const inside = new Uint32Array(256), width = new Float32Array(256), height = new Float32Array(256);
  for (let i = 0; i < 256; i++) {
    inside[i] = i === 0 ? Math.round((R / base) * scale) : i === 1 ? 0 : Math.round((x[i - 1] / x[i]) * scale);
    width[i] = (i === 0 ? base : x[i]) / scale;
    height[i] = i === 0 ? 1 : density(x[i]);
  }
  return { inside, width, height };
})();

/** Draw `count` standard normal numbers: those of step `step` of image `index` of a seed. */
export function normal(count, seed, index, step = 0) {
  const next = words(seed, step, index), uniform = () => Math.fround((next() >>> 8) / 2 ** 24);
  const { inside, width, height } = layers;
  const one = () => {
    for (;;) {
      const word = next(), layer = word & 0xff, sign = (word >>> 8) & 1 ? -1 : 1, place = word >>> 9;
      const x = sign * Math.fround(place * width[layer]);
      if (place < inside[layer]) return x;
      if (layer === 0) {
        for (;;) {
          const far = Math.fround(-Math.fround(1 / R) * Math.fround(Math.log1p(-uniform())));
          const down = Math.fround(-Math.log1p(-uniform()));
          if (down + down > far * far) return (place >>> 8) & 1 ? -(R + far) : R + far;
        }
      }
      if ((height[layer - 1] - height[layer]) * uniform() + height[layer] < Math.exp(-0.5 * x * x)) return x;
    }
  };
  return Float32Array.from({ length: count }, one);
}
