// Tables whose rows stay where they are while their cells change.

/**
 * A panel with a title, a filter, a sortable table and its pages. Columns: `{ title, order?, cell }`;
 * `cell()` makes `{ node, show(row) }`. `changed(wish)` is told `{ filter, order, page }`.
 */
function tablePanel(section, { id, title, filterLabel, columns, keyOf, extra, changed, firstOrder }) {
  const wish = { filter: '', order: firstOrder, page: 0 };
  const count = el('span', { class: 'count soft' });
  const filter = el('input', {
    type: 'search', id: `${id}-filter`, placeholder: 'Filter', 'aria-label': filterLabel, maxlength: '80',
    autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', on: { input: () => ask({ filter: filter.value, page: 0 }, 200) },
  });
  const heads = columns.map((column) => {
    const label = column.order
      ? el('button', { type: 'button', class: 'sort', on: { click: () => sortBy(column) } }, column.title)
      : el('span', { class: column.isHidden ? 'hidden' : undefined }, column.title);
    return el('th', { scope: 'col', role: 'columnheader', class: column.class }, label);
  });
  const body = el('tbody', { role: 'rowgroup' });
  const table = el('table', { role: 'table', 'aria-labelledby': `${id}-title` },
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, ...heads)), body);
  const empty = el('div', { class: 'empty', hidden: true });
  const before = el('button', { type: 'button', class: 'button', on: { click: () => ask({ page: wish.page - 1 }) } }, 'Previous');
  const after = el('button', { type: 'button', class: 'button', on: { click: () => ask({ page: wish.page + 1 }) } }, 'Next');
  const where = el('span', { class: 'soft', 'aria-live': 'polite' });
  const pages = el('div', { class: 'pages', hidden: true }, before, where, after);
  section.append(
    el('div', { class: 'panel-head' }, el('h2', { id: `${id}-title` }, title), count, el('div', { class: 'tools' }, ...(extra ?? []), filter)),
    table, empty, pages,
  );

  let timer;
  function ask(change, delay = 0) {
    Object.assign(wish, change);
    clearTimeout(timer);
    timer = setTimeout(() => changed(wish), delay);
  }

  function sortBy({ order }) {
    ask({ order: wish.order === order ? `-${order}` : order, page: 0 });
    showOrder();
  }

  function showOrder() {
    columns.forEach((column, at) => {
      const turned = wish.order === `-${column.order}`;
      const is = column.order && (turned || wish.order === column.order);
      // The newest first is what "Age" means when it is first pressed: youngest on top, ascending.
      mark(heads[at], 'aria-sort', is ? (turned ? 'descending' : 'ascending') : undefined);
    });
  }
  showOrder();

  const rows = new Map();
  function rowOf(key) {
    const known = rows.get(key);
    if (known) return known;
    const cells = columns.map((column) => column.cell());
    const node = el('tr', { role: 'row' }, ...cells.map(({ node: inner }, at) => {
      const column = columns[at];
      return el('td', { role: 'cell', class: column.class, 'data-title': column.isHidden ? undefined : column.title }, inner);
    }));
    const made = { node, cells, row: undefined };
    rows.set(key, made);
    return made;
  }

  return {
    /** Shows a page of the fleet; `ifEmpty` is what to say when there is nothing to show. */
    show(page, ifEmpty) {
      const focused = document.activeElement;
      const keys = new Set(page.rows.map(keyOf));
      for (const [key, made] of rows) {
        if (!keys.has(key)) {
          made.node.remove();
          rows.delete(key);
        }
      }
      page.rows.forEach((row, at) => {
        const made = rowOf(keyOf(row));
        made.row = row;
        if (body.children[at] !== made.node) body.insertBefore(made.node, body.children[at] ?? null);
      });
      if (focused && focused !== document.activeElement && body.contains(focused)) focused.focus();
      this.tick();
      wish.page = page.page;
      write(count, page.matching === page.total ? number(page.total) : `${number(page.matching)} of ${number(page.total)}`);
      show(pages, page.pages > 1);
      before.disabled = page.page === 0;
      after.disabled = page.page + 1 >= page.pages;
      write(where, `Page ${number(page.page + 1)} of ${number(page.pages)}`);
      show(table, page.rows.length > 0);
      show(empty, page.rows.length === 0);
      if (page.rows.length === 0) empty.replaceChildren(...(page.total ? ['Nothing matches the filter.'] : [ifEmpty]));
    },
    /** Time goes on: ages grow. */
    tick() {
      for (const { cells, row } of rows.values()) for (const cell of cells) cell.show(row);
    },
  };
}

/** A cell of plain text. */
const textCell = (textOf, properties) => () => {
  const node = el('bdi', properties);
  return { node, show: (row) => write(node, textOf(row)) };
};
