"use strict";

// Orders, filters and shows the cards of #gallery, and compares two layers of one in #viewer.
{
  const filters = document.getElementById("filters").elements;
  const list = document.querySelector(".cards");
  const viewer = document.getElementById("viewer");
  const variants = [...filters.variant.options].map((option) => option.text);
  const layers = [...document.querySelectorAll("#layers label")].map((label) => label.textContent.trim());
  // The picture and its truth come before the variants.
  const FIRST_VARIANT = layers.length - variants.length;

  const cards = JSON.parse(document.getElementById("cards").textContent)
    .map((card, index) => ({ ...card, item: list.children[index] }));
  let shown = cards;

  const told = (iou) => (iou === null ? "no pixel counts" : `IoU ${iou.toFixed(3)}`);
  const describe = (card, layer) => `${card.name}: ${layers[layer]}`;

  // What has no IoU comes last in either order.
  const byIou = (variant, sign) => (a, b) => {
    const [x, y] = [a.iou[variant], b.iou[variant]];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (x - y);
  };
  const byName = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });
  const ORDERS = {
    worst: (variant) => byIou(variant, 1),
    best: (variant) => byIou(variant, -1),
    name: () => byName,
  };

  const arrange = () => {
    const text = filters.text.value.toLowerCase();
    const matches = (card) => card.name.toLowerCase().includes(text)
      && (filters.class.value === "" || card.classes.includes(Number(filters.class.value)));
    shown = cards.filter(matches).sort(ORDERS[filters.order.value](Number(filters.variant.value)));
    list.replaceChildren(...shown.map((card) => card.item));
    paint();
  };

  const paint = () => {
    const [layer, variant] = [Number(filters.layer.value), Number(filters.variant.value)];
    // Of a variant's layer its own IoU, else that of the variant that the order is by.
    const scored = layer < FIRST_VARIANT ? variant : layer - FIRST_VARIANT;
    for (const card of shown) {
      const image = card.item.querySelector("img");
      image.src = card.files[layer];
      image.alt = describe(card, layer);
      card.item.querySelector(".score").textContent = told(card.iou[scored]);
    }
    filters.count.value = `${shown.length} of ${cards.length} shown, with the mean IoU of ${variants[scored]}`;
  };

  const control = (name) => viewer.querySelector(`[name=${name}]`);
  let open = null;

  const compare = () => {
    document.getElementById("viewer-name").textContent = open.name;
    for (const side of ["left", "right"]) {
      const image = viewer.querySelector(`img.${side}`);
      const layer = Number(control(side).value);
      image.src = open.files[layer];
      image.alt = describe(open, layer);
    }
    viewer.querySelector(".scores").replaceChildren(...variants.map((name, index) => {
      const score = document.createElement("li");
      score.textContent = `${name}: ${told(open.iou[index])}`;
      return score;
    }));
    const place = shown.indexOf(open);
    control("previous").disabled = place <= 0;
    control("next").disabled = place >= shown.length - 1;
  };

  const step = (by) => {
    open = shown[shown.indexOf(open) + by];
    compare();
  };

  const wipe = () => {
    viewer.querySelector(".wipe").style.setProperty("--wipe", `${control("wipe").value}%`);
  };

  list.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    open = shown.find((card) => card.item === item);
    if (!open) return;
    compare();
    viewer.showModal();
    control("wipe").focus();
  });
  for (const side of ["left", "right"]) control(side).addEventListener("change", compare);
  control("wipe").addEventListener("input", wipe);
  control("previous").addEventListener("click", () => step(-1));
  control("next").addEventListener("click", () => step(1));
  control("close").addEventListener("click", () => viewer.close());

  const form = document.getElementById("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => (event.target.name === "layer" ? paint() : arrange()));

  // The arrow keys change the layer wherever they have no meaning of their own.
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || viewer.open || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.closest("input, select, textarea, .chart, .scroll")) return;
    event.preventDefault();
    const layer = (Number(filters.layer.value) + by + layers.length) % layers.length;
    filters.layer.value = layer;
    paint();
  });

  arrange();
}
