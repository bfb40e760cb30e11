const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("page-data").textContent);

async function bytes(packed) {
  const stream = new Blob([Uint8Array.from(atob(packed), (character) => character.charCodeAt(0))]).stream();
  return new Response(stream.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}
const uint8 = async (packed) => new Uint8Array(await bytes(packed));
const uint16 = async (packed) => new Uint16Array(await bytes(packed));
const uint32 = async (packed) => new Uint32Array(await bytes(packed));
const texts = async (packed) => new TextDecoder().decode(await bytes(packed)).split("\0");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// after the page is shown, and before anybody prints it
function whenIdle(act) {
  addEventListener("load", () => (window.requestIdleCallback ?? setTimeout)(() => act()));
}

function onScheme(act) {
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", act);
}

function filterBy(form, items, { matches, show }) {
  const selects = [...form.querySelectorAll("select")];
  const apply = () => {
    const chosen = selects.filter((select) => select.value);
    const wanted = chosen.map((select) => [select.dataset.key, select.value.slice(1)]);
    show(items.filter((item) => wanted.every(([key, value]) => matches(item, key, value))));
  };
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}

// a name may be written from right to left; bdi keeps the text after it in its place
function named(text) {
  const name = document.createElement("bdi");
  name.textContent = text;
  return name;
}
