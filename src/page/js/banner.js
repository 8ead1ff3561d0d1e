// Banner: a line at the top that needs no answer: reconnecting, offline, draining.

const banner = (() => {
  let element = null;
  return {
    /** `isBusy` shows that something is under way; `isBrief` lets the visitor put it away. */
    show(text, { isBusy = false, isClosable = false } = {}) {
      if (element && element.dataset.text === text) return;
      this.hide();
      element = make('div.pill', { role: 'status' });
      element.dataset.text = text;
      if (isBusy) element.append(make('span.spinner', { 'aria-hidden': 'true' }));
      root.add(element);
      // Put in after the element is there, so that screen readers announce it.
      element.append(make('span', {}, text));
      if (isClosable) {
        element.append(make('button.close', { type: 'button', 'aria-label': say('close'), onclick: () => this.hide() }, icon('M6 6l12 12M18 6L6 18')));
      }
    },
    hide() {
      if (element) element.remove();
      element = null;
    },
  };
})();

/** A worker that drains says until when the stream can last. */
function announceDrain(deadline) {
  const at = new Date(deadline);
  const time = Number.isNaN(at.getTime()) ? '' : at.toLocaleTimeString(language, { hour: '2-digit', minute: '2-digit' });
  banner.show(time ? say('draining_until', { time }) : say('draining'), { isClosable: true });
}
