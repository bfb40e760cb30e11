const NONE = 65535; // the index that means "no label"
const LARGEST = 65535;
const LEFT_OUT = "left out to keep the page small";
const REACH = 16; // px from the pointer within which it picks a sample
// Okabe and Ito 2008
const HUES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a100", "#7a7a7a"];
// from low to high, for steps of a scale and ranges of a number; of similar lightness, so that both schemes show all
const RAMP = [[47, 111, 208], [26, 158, 143], [217, 154, 0], [200, 64, 42]];
const SHAPES = ["square", "circle", "triangle", "diamond"]; // when the hues are used up
const OUTCOMES = {
  right: ["grey", "right"],
  gained: ["green", "right, but wrong in the model in use"],
  wrong: ["orange", "wrong"],
  lost: ["purple", "wrong, but right in the model in use"],
};
const canvas = byId("map-canvas");
const points = data.points;
let chart = null;

async function readPoints() {
  const [x, y, batch] = await Promise.all([uint16(points.x), uint16(points.y), uint16(points.batch)]);
  const paths = await texts(points.paths);
  const targets = await Promise.all(points.targets.map(async (packed) => ({
    kind: packed.kind,
    names: packed.names,
    label: await uint16(packed.label),
    candidate: packed.candidate && (await uint16(packed.candidate)),
    baseline: packed.baseline && (await uint16(packed.baseline)),
    confidence: packed.confidence && (await uint8(packed.confidence)),
    outcome: packed.outcome && (await uint8(packed.outcome)),
    words: packed.words && new Map(await Promise.all(
      Object.entries(packed.words).map(async ([model, packedTexts]) => [model, await texts(packedTexts)]),
    )),
  })));
  return { x, y, batch, paths, targets };
}

function outcome(target, k) {
  const label = target.label[k];
  if (label === NONE) return null;
  if (target.outcome) return Object.keys(OUTCOMES)[target.outcome[k]];
  const was = target.baseline ? target.baseline[k] === label : null;
  if (target.candidate[k] === label) return was === false ? "gained" : "right";
  return was === true ? "lost" : "wrong";
}

const isWrong = (kind) => kind === "wrong" || kind === "lost";

// what a model answered, in words; the model `label` is the truth
function answer(target, model, k) {
  if (!target.words) return target[model] && target.names[target[model][k]];
  return target.words.has(model) ? target.words.get(model)[k] || LEFT_OUT : undefined;
}

// the colour of a part 0..1 of the way from the first colour of the ramp to the last
function ramp(part) {
  const at = part * (RAMP.length - 1);
  const from = Math.min(Math.floor(at), RAMP.length - 2);
  const mixed = RAMP[from].map((value, band) => Math.round(value + (at - from) * (RAMP[from + 1][band] - value)));
  return `rgb(${mixed})`;
}

function makeChart({ x, y, batch, paths, targets }) {
  const context = canvas.getContext("2d");
  const [show, only, hue] = ["map-outcome", "map-class", "map-colour"].map(byId);
  let target = targets[0];
  let view = { zoom: 1, left: 0, top: 0 }; // left and top in px of the whole map
  let shown = [];
  let chosen = -1;
  let size = { width: 1, height: 1, scale: 1, side: 1 };

  const place = (k) => [
    (size.width - size.side * view.zoom) / 2 + (x[k] / LARGEST) * size.side * view.zoom - view.left,
    (size.height - size.side * view.zoom) / 2 + (1 - y[k] / LARGEST) * size.side * view.zoom - view.top,
  ];

  function keyOf(k) {
    if (hue.value === "batch") return batch[k];
    return hue.value === "class" ? target.label[k] : outcome(target, k);
  }
  const isRamp = () => ["ordinal", "number"].includes(target.kind) && hue.value === "class";
  function paint(key) {
    if (isRamp()) return ramp(key / Math.max(target.names.length - 1, 1));
    return hue.value === "outcome" ? colour(OUTCOMES[key][0]) : HUES[key % HUES.length];
  }
  const shapeOf = (key) =>
    hue.value === "outcome" || isRamp() ? 0 : Math.floor(key / HUES.length) % SHAPES.length;
  function nameOf(key) {
    if (hue.value === "outcome") return OUTCOMES[key][1];
    return hue.value === "batch" ? points.batches[key] : target.names[key];
  }

  function select() {
    const wanted = only.value === "" ? null : Number(only.value);
    const groups = new Map(hue.value === "outcome" ? Object.keys(OUTCOMES).map((key) => [key, []]) : []);
    for (let k = 0; k < x.length; k++) {
      const kind = outcome(target, k);
      if (kind === null || (wanted !== null && target.label[k] !== wanted)) continue;
      if (show.value === "wrong" ? !isWrong(kind) : show.value && kind !== show.value) continue;
      const key = keyOf(k);
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(k);
    }
    shown = [...groups].filter(([, members]) => members.length);
    if (hue.value !== "outcome") shown.sort(([one], [other]) => one - other);
    legend();
    draw();
  }

  function legend() {
    const few = shown.slice(0, 24).map(([key, members]) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = `swatch ${SHAPES[shapeOf(key)]}`;
      swatch.style.background = paint(key);
      item.append(swatch, named(nameOf(key)), ` (${members.length.toLocaleString("en")})`);
      return item;
    });
    if (shown.length > 24) {
      const rest = document.createElement("li");
      rest.textContent = `and ${shown.length - 24} more: point at a sample to read its class`;
      few.push(rest);
    }
    byId("map-legend").replaceChildren(...few);
  }

  function resize() {
    const box = canvas.getBoundingClientRect();
    const scale = Math.min(devicePixelRatio, 2);
    size = { width: box.width, height: box.height, scale, side: Math.min(box.width, box.height) - 24 };
    canvas.width = Math.round(box.width * scale);
    canvas.height = Math.round(box.height * scale);
    draw();
  }

  // squares, circles, triangles and diamonds of the same width
  function mark(shape, left, top, wide) {
    const half = wide / 2;
    if (shape === 0) return context.fillRect(left - half, top - half, wide, wide);
    context.beginPath();
    if (shape === 1) context.arc(left, top, half * 1.1, 0, 2 * Math.PI);
    else {
      context.moveTo(left, top - half * 1.3);
      context.lineTo(left + half * 1.3, shape === 2 ? top + half : top);
      if (shape === 3) context.lineTo(left, top + half * 1.3);
      context.lineTo(left - half * 1.3, shape === 2 ? top + half : top);
    }
    context.fill();
  }

  function ring(left, top, radius) {
    context.beginPath();
    context.arc(left, top, radius, 0, 2 * Math.PI);
    context.stroke();
  }

  function draw() {
    context.setTransform(size.scale, 0, 0, size.scale, 0, 0);
    context.clearRect(0, 0, size.width, size.height);
    const total = shown.reduce((sum, [, members]) => sum + members.length, 0);
    for (const [key, members] of shown) {
      context.fillStyle = paint(key);
      context.globalAlpha = key === "right" && total > 2000 ? 0.45 : 0.85;
      // a rare outcome has larger dots, so that frequent ones do not hide it
      const among = hue.value === "outcome" ? members.length : total;
      const wide = Math.min(10, Math.max(1.5, Math.min(7, 150 / Math.sqrt(among))) * Math.sqrt(view.zoom));
      for (const k of members) {
        const [left, top] = place(k);
        const isInside = left > -9 && top > -9 && left < size.width + 9 && top < size.height + 9;
        if (isInside) mark(shapeOf(key), left, top, wide);
      }
    }
    context.globalAlpha = 1;
    context.strokeStyle = colour("ink");
    if (hue.value !== "outcome") {
      context.lineWidth = 1;
      const radius = Math.max(3, Math.min(6, 150 / Math.sqrt(total)));
      for (const k of shown.flatMap(([, members]) => members)) {
        if (isWrong(outcome(target, k))) ring(...place(k), radius);
      }
    }
    context.lineWidth = 2;
    if (chosen >= 0) ring(...place(chosen), 9);
  }

  function nearest(left, top, allowed) {
    let best = -1;
    let least = Infinity;
    for (const [, members] of shown) {
      for (const k of members) {
        const [a, b] = place(k);
        const distance = (a - left) ** 2 + (b - top) ** 2;
        if (distance < least && allowed(a - left, b - top, k)) [best, least] = [k, distance];
      }
    }
    return [best, Math.sqrt(least)];
  }

  function showSample(k) {
    if (k === chosen) return;
    chosen = k;
    draw();
    const parts = [];
    const number = points.previews[k];
    if (number !== undefined) {
      const preview = byId(`preview-${number}`).cloneNode(true);
      for (const name of ["id", "loading", "title"]) preview.removeAttribute(name);
      if (preview.alt) preview.alt = "";
      parts.push(preview);
    } else {
      const none = document.createElement("p");
      none.className = "thumb none";
      none.textContent = canvas.dataset.none;
      parts.push(none);
    }
    const list = document.createElement("dl");
    const add = (title, name, more = "") => {
      const [term, value] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = title;
      value.append(named(name), more);
      list.append(term, value);
    };
    if (target.label[k] !== NONE) {
      add("label", answer(target, "label", k));
      const sure = target.confidence ? `, ${Math.round(target.confidence[k] / 2.55)} % sure` : "";
      add("candidate", answer(target, "candidate", k), sure);
      const was = answer(target, "baseline", k);
      if (was !== undefined) add("model in use", was);
    }
    add("batch", points.batches[batch[k]]);
    add("path", paths[k] || LEFT_OUT);
    byId("map-sample").replaceChildren(...parts, list);
  }

  function zoomTo(zoom, left = size.width / 2, top = size.height / 2) {
    const next = Math.min(64, Math.max(1, zoom));
    const grown = next / view.zoom;
    view = next === 1 ? { zoom: 1, left: 0, top: 0 } : {
      zoom: next,
      left: (view.left + left - size.width / 2) * grown - (left - size.width / 2),
      top: (view.top + top - size.height / 2) * grown - (top - size.height / 2),
    };
    draw();
  }

  function follow(k) {
    const [left, top] = place(k);
    if (left < 0 || top < 0 || left > size.width || top > size.height) {
      view.left += left - size.width / 2;
      view.top += top - size.height / 2;
    }
    showSample(k);
    draw();
  }

  let dragged = null;
  let waiting = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (view.zoom > 1) {
      dragged = [event.clientX + view.left, event.clientY + view.top];
      canvas.setPointerCapture(event.pointerId);
    }
  });
  for (const ended of ["pointerup", "pointercancel"]) canvas.addEventListener(ended, () => (dragged = null));
  const point = (event) => {
    if (dragged) {
      view = { zoom: view.zoom, left: dragged[0] - event.clientX, top: dragged[1] - event.clientY };
      draw();
      return;
    }
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const box = canvas.getBoundingClientRect();
      const at = [event.clientX - box.left, event.clientY - box.top];
      const [previewed, near] = nearest(...at, (a, b, k) => k in points.previews);
      const [k, distance] = nearest(...at, () => true);
      if (near <= REACH / 2) showSample(previewed);
      else if (distance <= REACH) showSample(k);
    });
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  const DIRECTIONS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const way = DIRECTIONS[event.key];
    if (way) {
      const [left, top] = chosen >= 0 ? place(chosen) : [size.width / 2, size.height / 2];
      // the next sample is within 45 degrees of the arrow; the first key takes the sample nearest to the middle
      const ahead = (a, b, k) => k !== chosen && a * way[0] + b * way[1] > Math.abs(a * way[1] + b * way[0]);
      const [k] = nearest(left, top, chosen >= 0 ? ahead : () => true);
      if (k >= 0) follow(k);
    } else if (event.key === "+" || event.key === "=") zoomTo(view.zoom * 1.6);
    else if (event.key === "-") zoomTo(view.zoom / 1.6);
    else if (event.key === "0") zoomTo(1);
    else return;
    event.preventDefault();
  });
  byId("zoom-in").addEventListener("click", () => zoomTo(view.zoom * 1.6));
  byId("zoom-out").addEventListener("click", () => zoomTo(view.zoom / 1.6));
  byId("zoom-all").addEventListener("click", () => zoomTo(1));

  function nameClasses() {
    const byClass = hue.querySelector("[value=class]");
    byClass.hidden = byClass.disabled = only.closest("label").hidden = !target.names.length;
    if (byClass.hidden && hue.value === "class") hue.value = "outcome";
    const word = { ordinal: "step", number: "range" }[target.kind] ?? "class";
    byClass.textContent = word;
    only.previousSibling.data = word[0].toUpperCase() + word.slice(1);
    const options = target.names.map((name, at) => new Option(name, at));
    only.replaceChildren(new Option("all", ""), ...options);
  }
  byId("map-target")?.addEventListener("change", (event) => {
    target = targets[Number(event.target.value)];
    chosen = -1;
    nameClasses();
    select();
  });
  for (const field of [show, only, hue]) field.addEventListener("change", select);
  byId("map-filters").addEventListener("submit", (event) => event.preventDefault());
  new ResizeObserver(resize).observe(canvas);
  onScheme(select);
  nameClasses();
  resize();
  select();
  return { follow };
}

const openChart = () => (chart ??= readPoints().then(makeChart));
whenIdle(openChart);
byId("gallery")?.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-row]");
  if (!button || button.dataset.row === "-1") return;
  const { follow } = await openChart();
  byId("map").scrollIntoView();
  canvas.focus({ preventScroll: true });
  follow(Number(button.dataset.row));
});
