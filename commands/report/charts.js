"use strict";

// Draws each .chart from the Vega-Lite specification in it.
{
  const OPTIONS = {
    renderer: "svg",
    actions: { export: true, source: false, compiled: false, editor: false },
  };

  const say = (element, text) => {
    const message = document.createElement("p");
    message.className = "message";
    message.setAttribute("role", "alert");
    message.textContent = text;
    element.replaceChildren(message);
  };

  for (const chart of document.querySelectorAll(".chart")) {
    const spec = JSON.parse(chart.querySelector("script").textContent);
    if (!window.vega || !window.vegaLite || !window.vegaEmbed) {
      say(chart, "This chart can't be drawn: put the folder vega next to this page.");
      continue;
    }
    const place = document.createElement("div");
    place.classList.toggle("fixed", spec.width !== "container");
    chart.append(place);
    vegaEmbed(place, spec, OPTIONS).catch((error) =>
      say(chart, `This chart can't be drawn: ${error.message}`));
  }
}
