"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const AXES = { dataset: "Data set", model: "Network", method: "Method" };
const STATES = ["finished", "running", "failed", "stopped", "missing"];
const byId = (id) => document.getElementById(id);
const shown = {
  dataset: new Set(),
  model: new Set(),
  method: new Set(),
  state: new Set(),
  off: new Set(),
  details: false,
  curve: "",
  log: false,
};

// ---- elements; text goes in as text alone, so that no title or log can become part of the page ----

function element(name, attributes = {}, ...children) {
  const found = name.includes(":")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) found.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) found.setAttribute(key, value);
  }
  found.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return found;
}

const svg = (name, attributes, ...children) => element(`svg:${name}`, attributes, ...children);
const span = (kind, ...children) => element("span", { class: kind }, ...children);
const hidden = (text) => span("hidden", text);
const nameOf = (name) => DATA.names[name] ?? name;
const place = (row) => `${nameOf(row.model)} on ${nameOf(row.dataset)}`;
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const counted = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

function grouped(rows, key) {
  const found = new Map();
  for (const row of rows) found.set(key(row), [...(found.get(key(row)) ?? []), row]);
  return found;
}

// ---- numbers ----

const exists = (value) => typeof value === "number" && Number.isFinite(value);
const minus = (text) => text.replace("-", "−");

function plusMinus(mean, std) {
  const digits = Math.abs(mean) >= 1000 ? 0 : Math.abs(mean) >= 1 ? 2 : 3;
  return minus(mean.toFixed(digits)) + (exists(std) ? ` ± ${std.toFixed(digits)}` : "");
}

const signed = (value, digits) => (value >= 0 ? "+" : "") + minus(value.toFixed(digits));
const difference = (value) => (exists(value) ? signed(value, Math.abs(value) >= 0.1 ? 2 : 3) : "");

function duration(seconds) {
  if (!exists(seconds)) return "";
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// ---- tables that can be sorted ----

const sorts = new Map(); // of every table: [column, 1 or -1]; kept when the filters change

// columns: {head, cell(row) -> what to show, value(row) -> what to sort by, words: left aligned}; the first heads its row
function table(id, caption, columns, rows, foot = null, tall = false) {
  const body = element(
    "tbody",
    {},
    rows.map((row) =>
      element(
        "tr",
        {},
        columns.map((column, i) =>
          element(i ? "td" : "th", { class: column.words && "words", scope: i ? null : "row" }, column.cell(row)),
        ),
      ),
    ),
  );
  const lines = [...body.children];
  const heads = columns.map((column, i) =>
    element(
      "th",
      { scope: "col", class: column.words && "words" },
      element("button", { type: "button", onclick: () => turn(i) }, column.head),
    ),
  );
  const order = () => {
    const [by, sign] = sorts.get(id) ?? [null, 1];
    heads.forEach((head, i) =>
      head.setAttribute("aria-sort", i !== by ? "none" : sign > 0 ? "ascending" : "descending"),
    );
    const keys = by === null ? [] : rows.map(columns[by].value);
    body.append(
      ...(by === null
        ? lines
        : lines
            .map((line, i) => [line, keys[i]])
            .sort((one, other) => compare(one[1], other[1], sign))
            .map(([line]) => line)),
    );
  };
  const turn = (i) => {
    // ascending, descending, as it was
    const [by, sign] = sorts.get(id) ?? [null, 1];
    if (by !== i) sorts.set(id, [i, 1]);
    else if (sign > 0) sorts.set(id, [i, -1]);
    else sorts.delete(id);
    order();
  };
  order();
  const label = typeof caption === "string" ? caption : caption.textContent;
  return element(
    "div",
    { class: `scroll${tall ? " tall" : ""}`, role: "region", "aria-label": label },
    element(
      "table",
      {},
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, heads)),
      body,
      foot && element("tfoot", {}, foot),
    ),
  );
}

function compare(one, other, sign) {
  // what does not exist comes last, either way
  const gone = (value) => value === null || value === undefined || value === "" || Number.isNaN(value);
  if (gone(one) || gone(other)) return gone(one) - gone(other);
  return sign * (typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other);
}

function makeScrollable() {
  // what scrolls can be reached by keyboard; what does not is no stop on the way
  for (const box of document.querySelectorAll(".scroll")) {
    const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    if (scrolls) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
  }
}

// ---- filters, and the part of the address behind # that keeps them ----

const chosen = (row, axes = Object.keys(AXES)) => axes.every((axis) => !shown[axis].size || shown[axis].has(row[axis]));

function readHash() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [key, value] of Object.entries(shown)) {
    if (value instanceof Set) shown[key] = new Set((given.get(key) ?? "").split(",").filter(Boolean));
  }
  shown.details = given.has("details");
  shown.log = given.has("log");
  shown.curve = given.get("curve") ?? "";
}

function writeHash() {
  const kept = new URLSearchParams();
  for (const [key, value] of Object.entries(shown)) {
    if (value instanceof Set ? value.size : value)
      kept.set(key, value instanceof Set ? [...value].join() : value === true ? "1" : value);
  }
  const text = kept.toString().replaceAll("%2C", ",").replaceAll("%2F", "/");
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

function toggle(key, value) {
  if (!shown[key].delete(value)) shown[key].add(value);
  change();
}

function change() {
  writeHash();
  render();
}

function clearFilters() {
  for (const key of [...Object.keys(AXES), "state"]) shown[key].clear();
  change();
}

const nothing = (what) =>
  element(
    "p",
    { class: "notice" },
    `No ${what} matches these filters. `,
    element("button", { type: "button", onclick: clearFilters }, "Clear the filters"),
  );

function chip(key, value, text) {
  return element(
    "button",
    {
      type: "button",
      class: "chip",
      "aria-pressed": shown[key].has(value),
      "data-chip": `${key} ${value}`,
      onclick: () => toggle(key, value),
    },
    text,
  );
}

function renderFilters() {
  byId("chips").replaceChildren(
    ...Object.entries(AXES).map(([axis, words]) =>
      element(
        "fieldset",
        {},
        element("legend", {}, words),
        DATA.axes[axis].map((name) => chip(axis, name, nameOf(name))),
      ),
    ),
    element(
      "div",
      {},
      element("button", { type: "button", "data-chip": "clear", onclick: clearFilters }, "Clear the filters"),
    ),
  );
  byId("chosen").textContent = Object.entries(AXES)
    .map(([axis, words]) =>
      shown[axis].size ? [...shown[axis]].map(nameOf).join(", ") : `all ${words.toLowerCase()}s`,
    )
    .join(" · ");
}

// ---- progress ----

const count = (runs, state) => runs.filter((run) => run.state === state).length;

function renderProgress(runs) {
  const rows = DATA.grids.map((grid) => ({ ...grid, runs: runs.filter((run) => run.grids.includes(grid.name)) }));
  for (const folder of new Set(runs.filter((run) => !run.grids.length).map((run) => run.folder))) {
    rows.push({
      name: folder,
      title: `Other runs, in ${folder}`,
      runs: runs.filter((run) => run.folder === folder && !run.grids.length),
    });
  }
  const there = rows.filter((row) => row.runs.length);
  if (!there.length) return byId("progress-body").replaceChildren(nothing("run"));
  const columns = [
    { head: "Runs of", words: true, cell: (row) => row.title, value: (row) => row.title },
    {
      head: "Done",
      cell: (row) => `${count(row.runs, "finished")} of ${row.runs.length}`,
      value: (row) => count(row.runs, "finished") / row.runs.length,
    },
    { head: "Share", words: true, cell: (row) => progress(row.runs), value: (row) => share(row.runs) },
    ...STATES.slice(1).map((state) => ({
      head: capital(state),
      cell: (row) => `${count(row.runs, state) || ""}`,
      value: (row) => count(row.runs, state),
    })),
  ];
  const total = element(
    "tr",
    {},
    element("th", { scope: "row", class: "words" }, "All, each counted once"),
    columns.slice(1).map((column) => element("td", { class: column.words && "words" }, column.cell({ runs }))),
  );
  return byId("progress-body").replaceChildren(
    table("progress", "Trained runs; the tables share many of them", columns, there, total),
  );
}

// of the epochs; a running or stopped run counts by what it has done
const share = (runs) => runs.reduce((sum, run) => sum + doneShare(run), 0) / runs.length;
const doneShare = (run) => (run.state === "finished" ? 1 : run.epochs ? run.epoch / run.epochs : 0);

function progress(runs) {
  const parts = STATES.slice(0, 4).map((state) => {
    const done = runs.filter((run) => run.state === state).reduce((sum, run) => sum + doneShare(run), 0) / runs.length;
    return done ? element("span", { class: state, style: `width:${(100 * done).toFixed(2)}%`, title: state }) : "";
  });
  const words = `${(100 * share(runs)).toFixed(0)} % of the epochs`;
  return element("div", { class: "progress", role: "img", "aria-label": words, title: words }, parts);
}

// ---- the paper's tables ----

function ours(row) {
  if (!row.wanted) return span("none", "cited");
  if (!row.n || !exists(row.mean)) return span("none", row.n ? "not a number" : "missing");
  return ranked(plusMinus(row.mean, row.std), row.rank);
}

function ranked(text, rank) {
  if (rank === 1) return span("best", text, hidden(" (best)"));
  if (rank === 2) return span("second", text, hidden(" (second best)"));
  return text;
}

function runsDone(row) {
  const text = row.wanted ? `${row.n} of ${row.wanted}` : "";
  return row.n && row.n < row.wanted ? span("part", text) : text;
}

function withInterval(row, name, than = "") {
  const [value, low, high] = [row[name], row[`${name}_low`], row[`${name}_high`]];
  if (!exists(value)) return "";
  const digits = Math.abs(value) >= 0.1 ? 2 : 3;
  const interval = exists(low) && exists(high) ? ` [${signed(low, digits)}, ${signed(high, digits)}]` : "";
  const clear = interval && (low > 0 || high < 0);
  const good = row.better === "lower" ? value < 0 : value > 0;
  const tag =
    clear && (row.better ? span(good ? "tag good" : "tag bad", good ? "better" : "worse") : span("tag", "differs"));
  return [signed(value, digits) + interval, tag && " ", tag, than && span("other", ` ${than}`)].filter(Boolean);
}

function columnsOf(rows) {
  const paper = rows.some((row) => exists(row.paper_mean));
  const columns = [
    { head: "Method", words: true, cell: (row) => row.label, value: (row) => row.label },
    { head: "Ours", cell: ours, value: (row) => row.mean },
    { head: "Runs", cell: runsDone, value: (row) => (row.wanted ? row.n : null) },
  ];
  if (paper) {
    columns.push(
      {
        head: "Paper",
        cell: (row) => (exists(row.paper_mean) ? ranked(plusMinus(row.paper_mean, row.paper_std), row.paper_rank) : ""),
        value: (row) => row.paper_mean,
      },
      { head: "Diff.", cell: (row) => difference(row.difference), value: (row) => row.difference },
    );
  }
  if (shown.details) {
    columns.push(
      { head: "To No Mixup [95 %]", cell: (row) => withInterval(row, "to_none"), value: (row) => row.to_none },
      {
        head: "To the best other [95 %]",
        cell: (row) => withInterval(row, "to_best", row.best_other),
        value: (row) => row.to_best,
      },
    );
  }
  return columns;
}

function renderTables() {
  const folded = new Set([...document.querySelectorAll("details.table:not([open])")].map((found) => found.id));
  const found = DATA.tables
    .map((one) => ({ ...one, rows: one.rows.filter((row) => chosen(row)) }))
    .filter((one) => one.rows.length);
  byId("details").setAttribute("aria-pressed", shown.details);
  byId("tables-body").className = shown.details ? "detailed" : "";
  byId("contents").replaceChildren(...found.map((one) => element("a", { href: `#${one.id}` }, one.short)));
  byId("tables-body").replaceChildren(
    ...(found.length ? found.map((one) => tableSection(one, !folded.has(one.id))) : [nothing("row of a table")]),
  );
}

function tableSection(one, open) {
  const blocks = grouped(one.rows, (row) => JSON.stringify([row.dataset, row.model, row.metric]));
  const wanted = one.rows.filter((row) => row.wanted);
  const whole = wanted.filter((row) => row.n >= row.wanted).length;
  return element(
    "details",
    { class: "table", id: one.id, open: open && "" },
    element(
      "summary",
      {},
      element("h3", {}, one.title),
      " ",
      span("count", `${whole} of ${counted(wanted.length, "cell")} complete`),
    ),
    one.note && element("p", { class: "note" }, `${capital(one.note)}.`),
    one.remark && element("p", { class: "quiet" }, one.remark),
    element(
      "div",
      { class: "panels" },
      [...blocks].map(([key, rows]) =>
        element(
          "div",
          { class: "panel" },
          element("h4", {}, place(rows[0])),
          table(`${one.id} ${key}`, rows[0].heading, columnsOf(rows), rows),
        ),
      ),
    ),
  );
}

// ---- runs ----

function state(run) {
  const where =
    run.state === "stopped" || run.state === "running" ? ` at epoch ${run.epoch} of ${run.epochs ?? "?"}` : "";
  return [span(`dot ${run.state}`), run.state, where];
}

function renderRuns(runs) {
  const body = byId("runs-body");
  if (!runs.length) return body.replaceChildren(nothing("run"));
  const listed = runs.filter((run) => !shown.state.size || shown.state.has(run.state));
  const failures = runs.filter((run) => run.failure);
  const columns = [
    { head: "State", words: true, cell: state, value: (run) => STATES.indexOf(run.state) + 1 - doneShare(run) / 2 },
    { head: "Data set", words: true, cell: (run) => nameOf(run.dataset), value: (run) => nameOf(run.dataset) },
    { head: "Network", words: true, cell: (run) => nameOf(run.model), value: (run) => nameOf(run.model) },
    { head: "Method", words: true, cell: (run) => nameOf(run.method), value: (run) => nameOf(run.method) },
    { head: "Seed", cell: (run) => `${run.seed}`, value: (run) => run.seed },
    { head: "Epochs", cell: (run) => `${run.epochs ?? "?"}`, value: (run) => run.epochs },
    {
      head: "Best validation error (%)",
      cell: (run) => (exists(run.val_error) ? run.val_error.toFixed(2) : ""),
      value: (run) => run.val_error,
    },
    { head: "Time", cell: (run) => duration(run.seconds), value: (run) => run.seconds },
    { head: "Folder", words: true, cell: (run) => run.folder, value: (run) => run.folder },
  ];
  return body.replaceChildren(
    element(
      "div",
      { class: "row", role: "group", "aria-label": "States" },
      STATES.map((name) => chip("state", name, `${name} ${count(runs, name)}`)),
    ),
    failures.length
      ? element(
          "div",
          { class: "failures" },
          element("h3", {}, "Failed"),
          failures.map((run) =>
            element(
              "details",
              {},
              element("summary", {}, `${place(run)}, ${nameOf(run.method)}, seed ${run.seed} (${run.folder})`),
              element("pre", { tabindex: "0" }, run.failure),
            ),
          ),
        )
      : "",
    listed.length ? table("runs", counted(listed.length, "run"), columns, listed, null, true) : nothing("run"),
  );
}

// ---- learning curves ----

const PANELS = [
  { key: "error", title: "Validation error (%)" },
  { key: "loss", title: "Training loss" },
];

function renderCurves() {
  const body = byId("curves-body");
  const curves = DATA.curves.filter((curve) => chosen(curve));
  if (!curves.length) {
    return body.replaceChildren(
      DATA.curves.length ? nothing("curve") : element("p", { class: "quiet" }, "No run has finished an epoch."),
    );
  }
  const groups = new Map(curves.map((curve) => [`${curve.folder}/${curve.dataset}/${curve.model}`, curve]));
  const group = groups.has(shown.curve) ? shown.curve : groups.keys().next().value;
  const here = curves.filter((curve) => `${curve.folder}/${curve.dataset}/${curve.model}` === group);
  const methods = Object.keys(DATA.styles).filter((method) => here.some((curve) => curve.method === method));
  const select = element(
    "select",
    {
      id: "curve",
      onchange: (event) => {
        shown.curve = event.target.value;
        change();
      },
    },
    [...groups].map(([key, curve]) =>
      element(
        "option",
        { value: key, selected: key === group && "" },
        `${place(curve)}${curve.folder === "runs" ? "" : ` (${curve.folder})`}`,
      ),
    ),
  );
  const log = element(
    "button",
    {
      type: "button",
      "aria-pressed": shown.log,
      "data-chip": "log",
      onclick: () => {
        shown.log = !shown.log;
        change();
      },
    },
    "Logarithmic",
  );
  const visible = here.filter((curve) => !shown.off.has(curve.method));
  return body.replaceChildren(
    element(
      "div",
      { class: "row curve-tools" },
      element("label", { for: "curve" }, "Network and data set"),
      select,
      log,
    ),
    element(
      "div",
      { class: "legend", role: "group", "aria-label": "Methods shown" },
      methods.map((method) =>
        element(
          "button",
          {
            type: "button",
            "aria-pressed": !shown.off.has(method),
            "data-chip": `off ${method}`,
            onclick: () => toggle("off", method),
            onpointerenter: () => emphasise(method),
            onpointerleave: () => emphasise(null),
          },
          sample(method),
          nameOf(method),
        ),
      ),
    ),
    visible.length
      ? element(
          "div",
          { class: "charts paper" },
          PANELS.map((panel) => chart(panel, visible)),
        )
      : element("p", { class: "notice" }, "All methods are switched off."),
    element(
      "p",
      { class: "quiet" },
      `A line a run: ${counted(visible.length, "run")}. Point at a chart, or use the arrow keys in it, for its values.`,
    ),
  );
}

function emphasise(method) {
  for (const line of document.querySelectorAll(".chart [data-method]")) {
    line.classList.toggle("dim", method !== null && line.dataset.method !== method);
  }
}

function stroke(method, width = 1.6) {
  const { color, dashes } = DATA.styles[method];
  return {
    fill: "none",
    stroke: color,
    "stroke-width": width,
    "stroke-dasharray": dashes.map((part) => part * width).join(" ") || null,
  };
}

function sample(method) {
  return svg(
    "svg",
    { width: 34, height: 14, "aria-hidden": "true" },
    svg("path", { d: "M1 7H33", ...stroke(method, 2) }),
    marker(method, 17, 7, 4),
  );
}

function marker(method, x, y, size = 3) {
  // matplotlib's, by its letters
  const { color, marker: kind } = DATA.styles[method];
  const look = { fill: color, stroke: "#000", "stroke-width": 0.4 };
  if (kind === "o") return svg("circle", { cx: x, cy: y, r: size, ...look });
  const around = (corners, turn, inner = 1) =>
    Array.from({ length: inner < 1 ? 2 * corners : corners }, (_, i) => {
      const angle = ((turn + (360 * i) / (inner < 1 ? 2 * corners : corners)) * Math.PI) / 180;
      const radius = 1.25 * size * (inner < 1 && i % 2 ? inner : 1);
      return [x + radius * Math.cos(angle), y + radius * Math.sin(angle)];
    });
  const points = {
    s: [4, 45],
    D: [4, 0],
    "^": [3, -90],
    v: [3, 90],
    "<": [3, 180],
    ">": [3, 0],
    h: [6, -90],
    p: [5, -90],
    "*": [5, -90, 0.42],
    P: [4, 0, 0.45],
    X: [4, 45, 0.45],
  }[kind] ?? [4, 45];
  return svg("polygon", {
    points: around(...points)
      .map((point) => point.map((c) => c.toFixed(1)).join())
      .join(" "),
    ...look,
  });
}

const SIZE = { width: 560, height: 300, left: 46, right: 24, top: 26, bottom: 38 };

function chart(panel, curves) {
  const wide = Math.max(
    300,
    Math.min(700, (byId("curves-body").clientWidth - 36) / (byId("curves-body").clientWidth > 880 ? 2 : 1)),
  );
  const box = { ...SIZE, width: Math.round(wide) };
  const values = curves
    .flatMap((curve) => curve[panel.key])
    .filter((value) => exists(value) && (!shown.log || value > 0));
  const last = Math.max(1, ...curves.map((curve) => curve.epoch.at(-1)));
  const low = shown.log ? Math.min(...values, Infinity) : 0;
  const high = Math.max(...values, shown.log ? 0 : 1e-9);
  const y = scale(
    shown.log ? Math.log10(low) : low,
    shown.log ? Math.log10(high) : high * 1.03,
    box.height - box.bottom,
    box.top,
  );
  const at = {
    x: scale(0, last, box.left, box.width - box.right),
    y: (value) => y(shown.log ? Math.log10(value) : value),
  };
  const drawing = svg("svg", {
    viewBox: `0 0 ${box.width} ${box.height}`,
    role: "img",
    tabindex: "0",
    "aria-label": `${panel.title} by epoch, ${place(curves[0])}, ${counted(curves.length, "run")}`,
  });
  drawing.append(...axes(panel, box, at, last, low, high), ...lines(panel.key, curves, at));
  const holder = element("div", { class: "chart" }, drawing);
  point(holder, drawing, panel, curves, box, at);
  return holder;
}

const scale = (from, to, start, end) => (value) => start + ((value - from) / (to - from || 1)) * (end - start);

function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  return Array.from(
    { length: Math.floor(high / step) - Math.ceil(low / step) + 1 },
    (_, i) => (Math.ceil(low / step) + i) * step,
  );
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    found.push(...[1, 2, 5].map((times) => times * 10 ** power).filter((value) => value >= low && value <= high));
  }
  return found.length > 1 ? found : [low, high];
}

const tickText = (value) => minus(`${Number(value.toPrecision(3))}`);

function axes(panel, box, at, last, low, high) {
  const bottom = box.height - box.bottom;
  const vertical = high > low ? (shown.log ? logTicks(low, high) : ticks(low, high, 5)) : [high];
  return [
    svg("text", { x: box.left, y: 14, class: "title" }, panel.title),
    ...vertical.flatMap((value) => [
      svg("path", { d: `M${box.left} ${at.y(value).toFixed(1)}H${box.width - box.right}`, class: "grid" }),
      svg("text", { x: box.left - 6, y: at.y(value) + 4, "text-anchor": "end" }, tickText(value)),
    ]),
    ...ticks(0, last, Math.max(3, box.width / 110))
      .filter(Number.isInteger)
      .map((value) => svg("text", { x: at.x(value), y: bottom + 16, "text-anchor": "middle" }, tickText(value))),
    svg("text", { x: (box.left + box.width - box.right) / 2, y: box.height - 4, "text-anchor": "middle" }, "epoch"),
    svg("path", { d: `M${box.left} ${box.top}V${bottom}H${box.width - box.right}`, class: "axis" }),
  ];
}

function lines(key, curves, at) {
  // one run of a method carries its markers, at places of its own
  const methods = [...new Set(curves.map((curve) => curve.method))];
  return curves.map((curve, i) => {
    const first = curves.findIndex((other) => other.method === curve.method) === i;
    return line(curve, key, at, first ? methods.indexOf(curve.method) / methods.length : null);
  });
}

function line(curve, key, at, start) {
  // start: of the first marker, as a share of their distance; null for none
  const points = curve.epoch
    .map((epoch, i) => [epoch, curve[key][i]])
    .filter(([, value]) => exists(value) && (!shown.log || value > 0))
    .map(([epoch, value]) => [at.x(epoch).toFixed(1), at.y(value).toFixed(1)]);
  const every = Math.max(1, Math.floor(points.length / 6));
  const marked = start === null ? [] : points.filter((_, i) => i % every === Math.floor(every * start));
  return svg(
    "g",
    { "data-method": curve.method },
    svg("polyline", {
      points: points.map((one) => one.join()).join(" "),
      "stroke-linejoin": "round",
      ...stroke(curve.method, 1.4),
    }),
    marked.map(([x, y]) => marker(curve.method, Number(x), Number(y))),
  );
}

function point(holder, drawing, panel, curves, box, at) {
  const epochs = [...new Set(curves.flatMap((curve) => curve.epoch))].sort((one, other) => one - other);
  const cursor = svg("path", { class: "cursor", visibility: "hidden" });
  const readout = element("div", { class: "readout", hidden: "", role: "status" });
  let index = null;
  const hide = () => {
    index = null;
    readout.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  };
  const show = (i) => {
    index = i;
    const x = at.x(epochs[i]);
    cursor.setAttribute("d", `M${x.toFixed(1)} ${box.top}V${box.height - box.bottom}`);
    cursor.setAttribute("visibility", "visible");
    readout.replaceChildren(element("strong", {}, `Epoch ${epochs[i]}`), ...valuesAt(panel.key, curves, epochs[i]));
    readout.hidden = false;
    readout.style[x > box.width / 2 ? "left" : "right"] = "3.25rem";
    readout.style[x > box.width / 2 ? "right" : "left"] = "auto";
  };
  const nearest = (event) => {
    const frame = drawing.getBoundingClientRect();
    const x = ((event.clientX - frame.left) / frame.width) * box.width;
    return epochs.reduce(
      (best, epoch, i) => (Math.abs(at.x(epoch) - x) < Math.abs(at.x(epochs[best]) - x) ? i : best),
      0,
    );
  };
  const move = (event) => show(nearest(event));
  drawing.addEventListener("pointermove", move);
  drawing.addEventListener("pointerdown", move);
  drawing.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
  drawing.addEventListener("blur", hide);
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    show(Math.max(0, Math.min(epochs.length - 1, (index ?? (step > 0 ? -1 : epochs.length)) + step)));
  });
  drawing.append(cursor);
  holder.append(readout);
}

function valuesAt(key, curves, epoch) {
  // a line a method, the lowest first: the mean over its runs that are there
  const value = (curve) => curve[key][curve.epoch.indexOf(epoch)];
  const there = grouped(
    curves.filter((curve) => exists(value(curve))),
    (curve) => curve.method,
  );
  const means = [...there].map(([method, runs]) => [
    method,
    runs.reduce((sum, curve) => sum + value(curve), 0) / runs.length,
    runs.length,
  ]);
  return means
    .sort((one, other) => one[1] - other[1])
    .map(([method, mean, n]) =>
      element("div", {}, span("", nameOf(method), n > 1 ? ` (mean of ${n})` : ""), span("", mean.toPrecision(4))),
    );
}

// ---- the whole ----

function render() {
  const held = document.activeElement?.dataset?.chip; // what had the focus is made anew
  const runs = DATA.runs.filter((run) => chosen(run));
  renderFilters();
  renderProgress(runs);
  renderTables();
  renderCurves();
  renderRuns(runs);
  makeScrollable();
  makeRoom();
  if (held) document.querySelector(`[data-chip="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
}

function makeRoom() {
  // so that what is jumped to does not end behind what stays at the top
  document.documentElement.style.scrollPaddingTop = `${byId("filters").parentElement.offsetHeight + 12}px`;
}

function jump(event) {
  // links within the page leave the filters in the address alone
  const target = event.target.closest?.('a[href^="#"]')?.getAttribute("href").slice(1);
  if (!target) return;
  event.preventDefault();
  const place = byId(target);
  if (place.matches("details")) place.open = true;
  place.scrollIntoView();
  place.setAttribute("tabindex", "-1");
  place.focus({ preventScroll: true });
}

let width = innerWidth;
document.addEventListener("click", jump);
byId("filters").addEventListener("toggle", makeRoom);
byId("details").addEventListener("click", () => {
  shown.details = !shown.details;
  change();
});
addEventListener("hashchange", () => {
  readHash();
  render();
});
addEventListener("resize", () => {
  if (innerWidth === width) return; // a phone's bars come and go
  width = innerWidth;
  renderCurves();
  makeScrollable();
  makeRoom();
});
readHash();
render();
