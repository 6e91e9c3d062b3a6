// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
// The native parts of node: zlib, crypto, JSON, regular expressions, sorting, collections.
'use strict';
const crypto = require('crypto');
const zlib = require('zlib');

const until = Date.now() + 1000 * Number(process.argv[2]);
const rows = Array.from({ length: 300 }, (_, i) => ({ id: i, name: 'row ' + i, list: [i, i * 2] }));

let sink = 0;
while (Date.now() < until) {
  const text = JSON.stringify(rows);
  sink += JSON.parse(text).length;
  sink += zlib.inflateSync(zlib.deflateSync(text)).length;
  sink += crypto.createHash('sha256').update(text.repeat(20)).digest()[0];
  sink += crypto.pbkdf2Sync('word', 'salt', 500, 32, 'sha512')[0];
  sink += text.replace(/[0-9]+/g, (number) => number + '!').length;
  sink += rows.map((row) => row.name).sort().length;
}
process.exitCode = sink < 0 ? 1 : 0;
