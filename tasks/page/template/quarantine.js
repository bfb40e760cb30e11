for (const name of ["quarantine", "labels"]) {
  const table = byId(name);
  if (!table) continue;
  const rows = [...table.tBodies[0].rows];
  filterBy(byId(`${name}-filters`), rows, {
    matches: (row, key, value) => row.dataset[key] === value,
    show: (passing) => {
      const shown = new Set(passing);
      for (const row of rows) row.hidden = !shown.has(row);
      byId(`${name}-count`).textContent = `${passing.length} of ${rows.length} rows`;
    },
  });
}
