// Prints the C++ sources of the addon for binding.gyp: every .cc file of every layer, with one implementation of os/
// and what its implementations share.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const os = process.platform === 'linux' ? 'os/linux' : 'os/portable';
const layers = ['base', 'format', 'os/posix', os, 'store', 'map', 'ipc', 'binding'];

for (const layer of layers) {
  const directory = path.join(__dirname, layer);
  if (!fs.existsSync(directory)) continue;
  for (const name of fs.readdirSync(directory).sort()) {
    if (name.endsWith('.cc')) console.log(`csrc/${layer}/${name}`);
  }
}
