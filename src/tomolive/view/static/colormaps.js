// Colour maps: grey, and five whose lightness grows evenly. Never a rainbow: it shows edges that are not there.
// 33 evenly spaced colours each, joined by straight lines. viridis, plasma, inferno, magma: Smith, van der Walt and
// Firing; cividis: Nuñez, Anderton and Renslow, PLOS ONE 13 (2018) e0199239.

const POINTS = {
  grey: "000000ffffff",
  magma:
    "0000040303110a0822130d331d114628115a36106a430f7650127c5d177f691c817621818226818f2a819c2e7f" +
    "a9327db63779c33b75cf4170db486ae65163ee5c5ef5695cf9785dfb8761fd9668fea571feb47bfec387fed194" +
    "fde0a2fceeb0fcfdbf",
  inferno:
    "0000040403120b0724150b37210c4a2e0a5a3c09654a0c6b57106d63146e70196e7d1e6d89226a962766a32b61" +
    "af315cbb3755c63e4dd14644db4f3be35932eb6528f1711ef67f14f98d0afb9c06fcab0ffbba1ff9ca32f5d949" +
    "f2e865f3f586fcffa4",
  plasma:
    "0d08872206903105963f049c4c02a15901a56600a77201a87e03a88909a69511a29f1a9ca92396b22c8ebb3587" +
    "c33e80cb4778d25071d9596ae06263e66c5ceb7555f07f4ff48a48f89441fb9f3afdab33feb72dfdc328fcd025" +
    "f9dd25f5eb27f0f921",
  viridis:
    "440154470d6048186a482374472d7b4536814240863f49893b528b375a8d33638d2f6a8e2c728e297a8e26818e" +
    "23898e21908c1f988b1f9f8821a68528ae8031b57b3ebc744cc26c5dc9636ece5882d34c96d83fabdc32c0df24" +
    "d5e21aeae51afde725",
};

export const NAMES = ["grey", "viridis", "plasma", "inferno", "magma", "cividis"];

/** 256 colours as [r, g, b] bytes, one after the other. */
export function colors(name, inverted = false) {
  const text = POINTS[name] ?? POINTS.grey;
  const points = text.match(/../g).map((pair) => parseInt(pair, 16));
  const last = points.length / 3 - 1;
  const table = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const place = ((inverted ? 255 - i : i) / 255) * last;
    const left = Math.min(Math.floor(place), last - 1);
    for (let c = 0; c < 3; c++) {
      const [a, b] = [points[left * 3 + c], points[left * 3 + 3 + c]];
      table[i * 3 + c] = Math.round(a + (b - a) * (place - left));
    }
  }
  return table;
}
