// The streamState alone, in virtual time: the timing table of what a dip and what an end look like.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const source = readFileSync(new URL('../../src/page/js/stream_state.js', import.meta.url), 'utf8');
const createStreamState = new Function(`'use strict';${source};return createStreamState;`)();

const made = { type: 'peer-made' };
const peer = (state) => ({ type: 'peer', state });
const server = (status, reason) => ({ type: 'server', status, reason });
const closed = { type: 'channel-closed' };
const lost = { type: 'terminated', isLoss: true };
const taken = { type: 'taken' };
const socketClosed = { type: 'socket-closed' };
const frames = { type: 'frames' };
const liveAt2s = [[1000, made], [2000, peer('connected')]];
const framesFor = (from, to) => Array.from({ length: (to - from) / 1000 + 1 }, (_, n) => [from + n * 1000, frames]);

/** Events `[ms, event]`, ticks every 500 ms in between; gives every change as `phase@ms`. */
function play(events, until) {
  const streamState = createStreamState(0);
  const changes = [];
  const queue = [...events];
  const step = (event, now) => {
    const before = streamState.phase;
    streamState.step(event, now);
    if (streamState.phase !== before) changes.push(`${streamState.phase}@${now}`);
  };
  for (let now = 0; now <= until; now += 500) {
    while (queue.length && queue[0][0] <= now) step(queue[0][1], queue.shift()[0]);
    step({ type: 'tick' }, now);
  }
  return { changes, reason: streamState.reason, streamState };
}

const rows = [
  ['a stream comes up', [...liveAt2s], 60000, ['live@2000'], null],
  ['no peer connection for 30 s is stuck', [], 60000, ['stuck@30000'], 'connect_timeout'],
  ['an unreachable relay is stuck after 15 s, not 41', [[1000, made]], 60000, ['stuck@16000'], 'connect_timeout'],
  ['a late connection heals a stuck start', [[1000, made], [20000, peer('connected')]], 60000, ['stuck@16000', 'live@20000'], null],
  ['the page falls back to WebSocket frames', [[1000, made], [5000, peer('failed')], ...framesFor(6000, 60000)], 60000, ['live@6000'], null],
  ['a failed start without fallback is stuck', [[1000, made], [5000, peer('failed')]], 60000, ['stuck@8000'], 'connect_timeout'],
  ['renegotiation and connecting again are no dip', [...liveAt2s, [3000, peer('connecting')], [3200, peer('connected')]], 60000, ['live@2000'], null],
  ['a blink is not worth a word', [...liveAt2s, [5000, peer('disconnected')], [6400, peer('connected')]], 60000, ['live@2000'], null],
  ['a dip is shown and heals', [...liveAt2s, [5000, peer('disconnected')], [11000, peer('connected')]], 60000, ['live@2000', 'dipped@6500', 'live@11000'], null],
  ['a long dip is reconnected', [...liveAt2s, [5000, peer('disconnected')]], 20000, ['live@2000', 'dipped@6500', 'reconnecting@13000'], 'connection_lost'],
  ['a dip is cut short when the network is back', [...liveAt2s, [5000, peer('disconnected')], [7000, { type: 'back' }]], 20000, ['live@2000', 'dipped@6500', 'reconnecting@9000'], 'connection_lost'],
  ['coming back to a playing stream changes nothing', [...liveAt2s, [5000, { type: 'back' }]], 20000, ['live@2000'], null],
  ['a failed connection is reconnected at once', [...liveAt2s, [5000, peer('failed')]], 20000, ['live@2000', 'reconnecting@5000'], 'connection_lost'],
  ['the streamer says goodbye: an end within 2 s', [...liveAt2s, [5100, closed]], 20000, ['live@2000', 'ended@7000'], 'stream_stopped'],
  ['goodbye, and the server says why', [...liveAt2s, [5100, closed], [5600, server('ended', 'deleted')]], 20000, ['live@2000', 'ended@5600'], 'deleted'],
  ['goodbye for a restart is reconnected', [...liveAt2s, [5100, closed], [5600, server('restarting')]], 20000, ['live@2000', 'reconnecting@5600'], 'restarting'],
  ['a channel that dies with its connection is no goodbye', [...liveAt2s, [5000, peer('failed')], [5000, closed]], 20000, ['live@2000', 'reconnecting@5000'], 'connection_lost'],
  ['the signalling socket is not the media', [...liveAt2s, [5000, socketClosed]], 600000, ['live@2000'], null],
  ['the body terminates the stream', [...liveAt2s, [5000, { type: 'terminated' }]], 20000, ['live@2000', 'ended@6500'], 'stream_stopped'],
  ['a body that fell silent is reconnected, whatever the streamer\'s goodbye says', [...liveAt2s, [5000, lost], [5100, closed], [12000, peer('failed')]], 60000, ['live@2000', 'reconnecting@5000'], 'connection_lost'],
  ['the word that the body fell silent may come after the goodbye', [...liveAt2s, [5000, closed], [5400, lost]], 60000, ['live@2000', 'reconnecting@5400'], 'connection_lost'],
  ['a body that fell silent for good is over when the server says so', [...liveAt2s, [5000, lost], [9000, server('ended', 'disconnected')]], 60000, ['live@2000', 'reconnecting@5000', 'ended@9000'], 'disconnected'],
  ['a stream that another tab has taken is left to it', [...liveAt2s, [5000, taken], [10000, peer('disconnected')], [12000, server('restarting')], [20000, peer('failed')], [21000, socketClosed]], 60000, ['live@2000', 'stuck@5000'], 'elsewhere'],
  ['the end of a stream in another tab is an end', [...liveAt2s, [5000, taken], [9000, server('ended', 'quit')]], 60000, ['live@2000', 'stuck@5000', 'ended@9000'], 'quit'],
  ['a fatal stage is said at once', [...liveAt2s, [5000, { type: 'fatal', detail: 'RTSP' }]], 60000, ['live@2000', 'stuck@5000'], 'start_failed'],
  ['the server ends a stream that still plays', [...liveAt2s, [5000, server('ended', 'max_duration')]], 20000, ['live@2000', 'ended@5000'], 'max_duration'],
  ['a session nobody knows any more has ended', [...liveAt2s, [5000, server('gone')]], 20000, ['live@2000', 'ended@5000'], 'unknown'],
  ['a living session is no reason for anything', [...liveAt2s, [5000, server('connected')]], 20000, ['live@2000'], null],
  ['an end is final', [...liveAt2s, [5000, server('ended', 'quit')], [6000, peer('connected')], [7000, server('connected')]], 20000, ['live@2000', 'ended@5000'], 'quit'],
  ['WebSocket frames keep a stream alive', framesFor(1000, 120000), 120000, ['live@1000'], null],
  ['a pause of WebSocket frames is a dip', [...framesFor(1000, 5000), ...framesFor(14000, 30000)], 30000, ['live@1000', 'dipped@10000', 'live@14000'], null],
  ['silence on the WebSocket is a loss', framesFor(1000, 5000), 60000, ['live@1000', 'dipped@10000', 'reconnecting@20000'], 'connection_lost'],
  ['the WebSocket of a WebSocket stream is its media', [...framesFor(1000, 5000), [5200, socketClosed]], 20000, ['live@1000', 'reconnecting@5200'], 'connection_lost'],
];

for (const [name, events, until, changes, reason] of rows) {
  test(name, () => {
    const played = play(events, until);
    assert.deepEqual(played.changes, changes);
    assert.equal(played.reason, reason);
  });
}
