// Report: the address of the issue form, filled with what is known of this session.

const REPORT_FORM = 'https://issues.experiencenet.com/report';
const VALUE_MAX = 200; // characters; thirteen of them stay far below what servers take as an address

function reportAddress(reason) {
  const facts = {
    project: 'hydraneckwebrtc',
    category: 'stream',
    title: `Stream ended: ${reason}`,
    session_id: CONFIG.session,
    experience: CONFIG.experience,
    district: CONFIG.district,
    body: CONFIG.body,
    head: CONFIG.head,
    body_ip: CONFIG.bodyIp,
    disconnect_count: visit.facts.disconnects,
    duration_ms: Math.max(0, (visit.facts.until || Date.now()) - visit.facts.since),
    end_reason: reason,
    ice_candidate_type: visit.facts.candidate,
  };
  const address = new URL(REPORT_FORM);
  for (const [name, value] of Object.entries(facts)) {
    // By code points: half a surrogate pair is no text.
    address.searchParams.set(name, [...String(value)].slice(0, VALUE_MAX).join(''));
  }
  return address.href;
}
