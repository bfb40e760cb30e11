const quarantine = byId("quarantine");
if (quarantine) {
  const rows = [...quarantine.tBodies[0].rows];
  filterBy(byId("quarantine-filters"), rows, {
    matches: (row, key, value) => row.dataset[key] === value,
    show: (passing) => {
      const shown = new Set(passing);
      for (const row of rows) row.hidden = !shown.has(row);
      byId("quarantine-count").textContent = `${passing.length} of ${rows.length} rows`;
    },
  });
}
