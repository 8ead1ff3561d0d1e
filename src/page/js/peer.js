// Peer: the page's RTCPeerConnection, forced through the relay and watched. A Proxy keeps the
// prototype, statics and `instanceof`; our own microphone uses the native one.

const STREAM_CHANNELS = ['general', 'moonlight.control']; // the streamer's control channel, by generation
const peers = new WeakSet();
let current = null; // the page makes one at a time

function relayed(configuration) {
  return CONFIG.relayOnly ? { ...configuration, iceTransportPolicy: 'relay' } : configuration;
}

function watchChannel(pc, channel) {
  if (!STREAM_CHANNELS.includes(channel.label)) return;
  listen(channel, 'close', () => {
    if (pc !== current) return;
    monitor.tell({ type: 'channel-closed' });
    askServer();
  });
}

function watchPeer(pc) {
  peers.add(pc);
  current = pc;
  monitor.tell({ type: 'peer-made' });
  listen(pc, 'datachannel', (event) => watchChannel(pc, event.channel));
  listen(pc, 'connectionstatechange', () => {
    if (pc !== current) return;
    monitor.tell({ type: 'peer', state: pc.connectionState });
    if (pc.connectionState === 'connected') return;
    if (pc.connectionState !== 'connecting') askServer();
  });
}

function wrapPeerConnection() {
  const Native = NATIVE.PeerConnection;
  if (!Native) return;
  const Wrapped = new Proxy(Native, {
    construct(target, args, newTarget) {
      const [configuration, ...rest] = args;
      const pc = Reflect.construct(
        target,
        [relayed(configuration), ...rest],
        newTarget === Wrapped ? target : newTarget,
      );
      guard(watchPeer)(pc);
      return pc;
    },
  });
  const { prototype } = Native;
  const { setConfiguration, createDataChannel, close } = prototype;
  // Written as methods so that names and missing `new` behave as the originals'.
  Object.assign(prototype, {
    setConfiguration(configuration) {
      return setConfiguration.call(this, peers.has(this) ? relayed(configuration) : configuration);
    },
    createDataChannel(...args) {
      const channel = createDataChannel.apply(this, args);
      if (peers.has(this)) guard(watchChannel)(this, channel);
      return channel;
    },
    close() {
      const wasOpen = this === current && this.connectionState !== 'closed';
      const result = close.call(this);
      // Closing it oneself fires no event.
      if (wasOpen) monitor.tell({ type: 'peer', state: 'closed' });
      return result;
    },
  });
  Object.defineProperty(prototype, 'constructor', { value: Wrapped, writable: true, configurable: true });
  for (const name of ['RTCPeerConnection', 'webkitRTCPeerConnection']) {
    if (window[name]) window[name] = Wrapped;
  }
}
