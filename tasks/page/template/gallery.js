const gallery = byId("gallery");
if (gallery) {
  const FIRST = gallery.classList.contains("texts") ? 5 : 12; // what the first screen has room for
  const MORE = 40;
  const items = [...gallery.children];
  const more = byId("gallery-more");
  let matching = items;
  let limit = FIRST;
  const show = () => {
    const shown = new Set(matching.slice(0, limit));
    for (const item of items) item.hidden = !shown.has(item);
    more.hidden = matching.length <= limit;
    more.textContent = `Show more (${matching.length - shown.size})`;
    byId("gallery-count").textContent = `${matching.length} of ${items.length} ${gallery.dataset.kind}`;
    rove(matching[0]);
  };
  // the Tab key stops once for all samples, and arrow keys move between them, as in a toolbar (WAI-ARIA)
  const rove = (chosen) => {
    for (const item of items) item.querySelector("button").tabIndex = item === chosen ? 0 : -1;
  };
  const matches = (item, key, value) =>
    key === "class" ? item.dataset.label === value || item.dataset.candidate === value : item.dataset[key] === value;
  filterBy(byId("gallery-filters"), items, {
    matches,
    show: (passing) => {
      matching = passing;
      limit = FIRST;
      show();
    },
  });
  more.addEventListener("click", () => {
    const first = matching[limit];
    limit += MORE;
    show();
    rove(first);
    first.querySelector("button").focus();
  });
  gallery.addEventListener("keydown", (event) => {
    const shown = matching.slice(0, limit);
    const at = shown.indexOf(event.target.closest("li"));
    const columns = getComputedStyle(gallery).gridTemplateColumns.split(" ").length;
    const steps = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -at, End: shown.length - 1 - at,
    };
    const step = steps[event.key];
    if (at < 0 || step === undefined) return;
    event.preventDefault();
    const next = shown[Math.max(0, Math.min(shown.length - 1, at + step))];
    rove(next);
    next.querySelector("button").focus();
  });
}
