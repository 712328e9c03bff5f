// Sends the browser on to an identity provider. Without a script its button does.
(() => {
  "use strict";
  const way = document.getElementById("handoff");
  if (way instanceof HTMLFormElement) way.submit();
  else if (way) location.replace(way.href);
})();
