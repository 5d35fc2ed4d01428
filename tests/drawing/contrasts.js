// Contrast of every text of the page with what is behind it (WCAG 2), the lowest first: [ratio, tag, text, fill].
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (rgb) => rgb.slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, number) => sum + part * [0.2126, 0.7152, 0.0722][number], 0);
  const behind = (part) => {
    for (; part; part = part.parentElement) {
      const color = rgba(getComputedStyle(part).backgroundColor);
      if (color[3] === 255) return color;
    }
    return rgba("Canvas");
  };
  const found = [];
  for (const part of document.querySelectorAll("body *")) {
    const own = [...part.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !part.getClientRects().length || ["SCRIPT", "STYLE", "OPTION"].includes(part.tagName)) continue;
    const style = getComputedStyle(part);
    const color = rgba(part.tagName === "text" ? style.fill : style.color);
    // Numbers on a fill of their own are black or white by the fill, in light and in dark.
    if (part.tagName === "text" && ["rgb(1, 1, 1)", "rgb(255, 255, 255)"].includes(style.fill)) continue;
    const [one, other] = [luminance(color), luminance(behind(part))].sort((a, b) => b - a);
    found.push([(one + 0.05) / (other + 0.05), part.tagName, part.textContent.trim().slice(0, 40), style.fill]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}
