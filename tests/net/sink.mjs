// The body's ear: counts the RTP that comes to a port, and prints what it counted for every line
// that it reads. Runs in the body's network namespace.
//   node sink.mjs ADDRESS PORT
import dgram from 'node:dgram';
import { createInterface } from 'node:readline';

const [address, port] = process.argv.slice(2);
const counted = { packets: 0, missing: 0, duplicates: 0, reordered: 0, malformed: 0, sources: [], ssrcs: [], types: [] };
const seen = new Set(); // extended sequence numbers
let newest = null;

/** 16 bits made whole by the newest number before. */
function extended(sequence) {
  if (newest === null) return 0x10000 + sequence;
  const step = ((sequence - newest) << 16) >> 16;
  return newest + step;
}
function keep(list, value) {
  if (!list.includes(value) && list.length < 10) list.push(value);
}

const socket = dgram.createSocket('udp4');
socket.on('message', (packet, from) => {
  if (packet.length <= 12 || packet[0] !== 0x80) { counted.malformed += 1; return; }
  counted.packets += 1;
  keep(counted.sources, from.address);
  keep(counted.types, packet[1] & 0x7f);
  keep(counted.ssrcs, packet.readUInt32BE(8));
  const number = extended(packet.readUInt16BE(2));
  if (seen.has(number)) counted.duplicates += 1;
  else if (newest !== null && number < newest) { counted.reordered += 1; counted.missing -= 1; }
  else if (newest !== null) counted.missing += number - newest - 1;
  seen.add(number);
  newest = Math.max(newest ?? number, number);
});
socket.bind(Number(port), address, () => console.log('listening'));
createInterface({ input: process.stdin }).on('line', () => console.log(JSON.stringify(counted))).on('close', () => process.exit(0));
