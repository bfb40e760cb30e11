const gallery = byId("gallery");
if (gallery) {
  const PAGE = 24;
  const items = [...gallery.children];
  const more = byId("gallery-more");
  let found = items;
  let limit = PAGE;
  const show = () => {
    const shown = new Set(found.slice(0, limit));
    for (const item of items) item.hidden = !shown.has(item);
    more.hidden = found.length <= limit;
    more.textContent = `Show more (${found.length - shown.size})`;
    byId("gallery-count").textContent = `${found.length} of ${items.length} pictures`;
    rove(found[0]);
  };
  // one stop of the Tab key for all pictures, arrow keys between them: the pattern of a toolbar (WAI-ARIA)
  const rove = (chosen) => {
    for (const item of items) item.querySelector("button").tabIndex = item === chosen ? 0 : -1;
  };
  const matches = (item, key, value) =>
    key === "class" ? item.dataset.label === value || item.dataset.candidate === value : item.dataset[key] === value;
  filterBy(byId("gallery-filters"), items, {
    matches,
    show: (which) => {
      found = which;
      limit = PAGE;
      show();
    },
  });
  more.addEventListener("click", () => {
    const first = found[limit];
    limit += PAGE;
    show();
    rove(first);
    first.querySelector("button").focus();
  });
  gallery.addEventListener("keydown", (event) => {
    const shown = found.slice(0, limit);
    const at = shown.indexOf(event.target.closest("li"));
    const columns = getComputedStyle(gallery).gridTemplateColumns.split(" ").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -at, End: shown.length - 1 - at }[event.key];
    if (at < 0 || step === undefined) return;
    event.preventDefault();
    const next = shown[Math.max(0, Math.min(shown.length - 1, at + step))];
    rove(next);
    next.querySelector("button").focus();
  });
}
