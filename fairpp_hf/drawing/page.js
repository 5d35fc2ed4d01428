"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  document.documentElement.classList.add("js");

  // Controls that show one of several: <select data-shows="NAME"> and parts with data-of="NAME" data-value="VALUE".
  for (const select of all("select[data-shows]")) {
    const parts = all(`[data-of="${select.dataset.shows}"]`);
    const show = () => parts.forEach((part) => part.classList.toggle("off", part.dataset.value !== select.value));
    select.addEventListener("change", show);
    show();
  }

  // Tables sorted by a column: numbers by data-key, cells without one last.
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    const said = table.closest(".scroll").parentElement.querySelector("[aria-live]");
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") !== "ascending" : head.dataset.first !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const body = table.tBodies[0];
        const key = (row) => row.cells[column].dataset.key ?? "";
        const isNumber = head.dataset.kind === "number";
        const rows = [...body.rows].sort((one, other) => {
          const [a, b] = [key(one), key(other)];
          if (a === "" || b === "") return (a === "") - (b === "");
          const order = isNumber ? Number(a) - Number(b) : a.localeCompare(b);
          return rising ? order : -order;
        });
        body.append(...rows);
        if (said) said.textContent = `Sorted by ${button.textContent}, ${rising ? "smallest" : "largest"} first.`;
      });
    });
  }

  // Boxes that are narrower than what is in them say so.
  const boxes = new ResizeObserver((entries) => entries.forEach(({ target }) => {
    target.classList.toggle("wider", target.scrollWidth > target.clientWidth + 1);
  }));
  all(".scroll").forEach((box) => boxes.observe(box));

  // The questions: filtered by words, dimension and group, in one of two orders.
  const list = document.querySelector(".questions");
  if (list) {
    const items = [...list.children];
    const texts = new Map(items.map((item) => [item, item.textContent.toLowerCase()]));
    const words = document.getElementById("filter-words");
    const dimension = document.getElementById("filter-dimension");
    const group = document.getElementById("filter-group");
    const order = document.getElementById("filter-order");
    const count = document.getElementById("filter-count");
    const filter = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const item of items) {
        const fits = wanted.every((word) => texts.get(item).includes(word))
          && (!dimension.value || item.dataset.dimension === dimension.value)
          && (!group.value || item.dataset.group === group.value);
        item.classList.toggle("off", !fits);
        shown += fits;
      }
      count.textContent = `${shown} of ${items.length} shown`;
    };
    const sort = () => {
      const key = order.value;
      list.append(...[...items].sort((one, other) => Number(other.dataset[key]) - Number(one.dataset[key])));
    };
    words.addEventListener("input", filter);
    dimension.addEventListener("change", filter);
    group.addEventListener("change", filter);
    order.addEventListener("change", sort);
    filter();
  }

  // Texts over parts of charts; the tables below the charts have the same numbers.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  const over = (event) => {
    const part = event.target.closest?.("[data-tip]");
    if (!part) { tip.style.display = "none"; return; }
    tip.textContent = part.dataset.tip;
    tip.style.display = "block";
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - box.width - 4))}px`;
    tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18}px`;
  };
  document.addEventListener("pointermove", over);
  document.addEventListener("pointerdown", over);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.style.display = "none"; });
  document.addEventListener("scroll", () => { tip.style.display = "none"; }, { passive: true, capture: true });

  // On paper nothing can be opened.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    opened.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => { opened.forEach((part) => { part.open = false; }); opened = []; });
})();
