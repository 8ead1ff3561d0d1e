// What the microphone's offer and answer say of Opus, for SDP of several makers.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const source = readFileSync(new URL('../../src/page/js/mic_webrtc.js', import.meta.url), 'utf8');
const voiceSdp = new Function(`'use strict';${source};return voiceSdp;`)();

const WANTED = ['minptime=10', 'useinbandfec=1', 'usedtx=1', 'stereo=0', 'sprop-stereo=0', 'maxaveragebitrate=32000'];
const settings = (sdp) => /^a=fmtp:111 ([^\r\n]*)/m.exec(sdp)[1].split(';').sort();
const lines = (...all) => `${all.join('\r\n')}\r\n`;

const rows = [
  ['settings are added to those there', lines('m=audio 9 UDP/TLS/RTP/SAVPF 111', 'a=rtpmap:111 opus/48000/2', 'a=fmtp:111 minptime=10;useinbandfec=1', 'a=x'), WANTED],
  ['stereo is turned off', lines('a=rtpmap:111 opus/48000/2', 'a=fmtp:111 stereo=1; sprop-stereo=1'), WANTED],
  ['foreign settings stay', lines('a=rtpmap:111 opus/48000/2', 'a=fmtp:111 cbr=1;'), [...WANTED, 'cbr=1']],
  ['a missing line is made', lines('a=rtpmap:111 opus/48000/2', 'a=x'), WANTED],
  ['capital letters are the same codec', lines('a=rtpmap:111 OPUS/48000/2', 'a=x'), WANTED],
];
for (const [name, sdp, wanted] of rows) {
  test(name, () => {
    const voice = voiceSdp(sdp);
    assert.deepEqual(settings(voice), [...wanted].sort());
    assert.equal(voice.match(/^a=fmtp:111/gm).length, 1);
    assert.ok(voice.endsWith('\r\n') && !/\r\r|[^\r]\n/.test(voice), 'line ends are whole');
  });
}

test('other codecs are left alone', () => {
  const sdp = lines('a=rtpmap:0 PCMU/8000', 'a=fmtp:0 x=1');
  assert.equal(voiceSdp(sdp), sdp);
});
