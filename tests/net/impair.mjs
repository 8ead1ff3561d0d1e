// A path between browsers and a TURN server that can lose and delay datagrams. A line on standard
// input sets it: {"loss": 0.05, "jitterMs": 50}; it prints what it carried and lost so far.
// As a queue does, delay varies but nothing overtakes. Runs in the network namespace of the path.
//   node impair.mjs ADDRESS PORT TARGET TARGET_PORT
import dgram from 'node:dgram';
import { createInterface } from 'node:readline';

const [address, port, target, targetPort] = process.argv.slice(2);
const WAITING_MAX = 10000; // datagrams in one direction
const path = { loss: 0, jitterMs: 0 };
const counted = { carried: 0, lost: 0 };

/** One direction: a queue whose head leaves when its time has come. */
function direction(send) {
  const waiting = [];
  let last = 0;
  const leave = () => {
    const now = performance.now();
    while (waiting.length && waiting[0].at <= now) send(waiting.shift().datagram);
    if (waiting.length) setTimeout(leave, waiting[0].at - now);
  };
  return (datagram) => {
    if (Math.random() < path.loss || waiting.length >= WAITING_MAX) { counted.lost += 1; return; }
    counted.carried += 1;
    last = Math.max(last, performance.now() + Math.random() * path.jitterMs);
    waiting.push({ at: last, datagram });
    if (waiting.length === 1) leave();
  };
}

const front = dgram.createSocket('udp4');
const clients = new Map();
front.on('message', (datagram, from) => {
  const name = `${from.address}:${from.port}`;
  let client = clients.get(name);
  if (!client) {
    const socket = dgram.createSocket('udp4');
    const back = direction((answer) => front.send(answer, from.port, from.address));
    socket.on('message', back);
    client = direction((request) => socket.send(request, Number(targetPort), target));
    clients.set(name, client);
  }
  client(datagram);
});
front.bind(Number(port), address, () => console.log('listening'));
createInterface({ input: process.stdin }).on('line', (line) => {
  Object.assign(path, JSON.parse(line));
  console.log(JSON.stringify(counted));
}).on('close', () => process.exit(0));
