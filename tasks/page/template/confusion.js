function drawConfusion(canvas, { names, row, column, count }) {
  const n = names.length;
  const totals = new Float64Array(n);
  const counts = new Map();
  row.forEach((i, k) => {
    totals[i] += count[k];
    counts.set(i * n + column[k], count[k]);
  });
  const side = Math.max(n, Math.floor(1024 / n) * n);
  const cell = side / n;
  const context = canvas.getContext("2d");
  canvas.width = canvas.height = side;
  const draw = () => {
    context.clearRect(0, 0, side, side);
    row.forEach((i, k) => {
      context.fillStyle = colour(i === column[k] ? "blue" : "orange");
      context.globalAlpha = 0.15 + 0.85 * Math.sqrt(count[k] / totals[i]);
      context.fillRect(column[k] * cell, i * cell, cell, cell);
    });
    context.globalAlpha = 1;
    if (chosen) {
      context.strokeStyle = colour("ink");
      context.lineWidth = Math.max(2, side / 300);
      context.strokeRect(chosen[1] * cell, chosen[0] * cell, cell, cell);
    }
  };
  let chosen = null;
  const choose = (i, j) => {
    chosen = [i, j].map((index) => Math.max(0, Math.min(n - 1, index)));
    const number = counts.get(chosen[0] * n + chosen[1]) ?? 0;
    byId(canvas.getAttribute("aria-describedby")).replaceChildren(
      named(names[chosen[0]]), " taken for ", named(names[chosen[1]]), `: ${number} of ${totals[chosen[0]]}`,
    );
    draw();
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const [down, across] = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    choose(Math.floor(down * n), Math.floor(across * n));
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [i, j] = chosen ?? [-step[0], -step[1]];
    choose(i + step[0], j + step[1]);
  });
  draw();
  onScheme(draw);
}

for (const canvas of document.querySelectorAll("canvas[data-confusion]")) {
  whenIdle(async () => {
    const { names, cells } = data.confusions[canvas.dataset.confusion];
    const [row, column, count] = await Promise.all([uint16(cells.row), uint16(cells.column), uint32(cells.count)]);
    drawConfusion(canvas, { names, row, column, count });
  });
}
