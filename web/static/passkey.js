// Passkeys (Web Authentication Level 2): a form marked data-passkey asks the browser
// to make a key, or to sign with one, and sends what it answers. The form is hidden
// where there is no script or no authenticator to ask.
(() => {
  "use strict";
  if (!window.PublicKeyCredential) return;

  const toBytes = (text) => {
    const raw = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    return Uint8Array.from(raw, (c) => c.charCodeAt(0));
  };
  const toText = (buffer) => {
    let raw = "";
    for (const byte of new Uint8Array(buffer)) raw += String.fromCharCode(byte);
    return btoa(raw).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  };
  const withBytes = (list) => (list || []).map((item) => ({ ...item, id: toBytes(item.id) }));

  const create = async (given) => {
    const publicKey = { ...given, challenge: toBytes(given.challenge), user: { ...given.user, id: toBytes(given.user.id) } };
    publicKey.excludeCredentials = withBytes(given.excludeCredentials);
    const made = await navigator.credentials.create({ publicKey });
    return {
      id: made.id, rawId: toText(made.rawId), type: made.type, authenticatorAttachment: made.authenticatorAttachment || undefined,
      clientExtensionResults: made.getClientExtensionResults(),
      response: {
        clientDataJSON: toText(made.response.clientDataJSON), attestationObject: toText(made.response.attestationObject),
        transports: made.response.getTransports ? made.response.getTransports() : [],
      },
    };
  };

  const get = async (given) => {
    const publicKey = { ...given, challenge: toBytes(given.challenge) };
    if (given.allowCredentials) publicKey.allowCredentials = withBytes(given.allowCredentials);
    const used = await navigator.credentials.get({ publicKey });
    return {
      id: used.id, rawId: toText(used.rawId), type: used.type, authenticatorAttachment: used.authenticatorAttachment || undefined,
      clientExtensionResults: used.getClientExtensionResults(),
      response: {
        clientDataJSON: toText(used.response.clientDataJSON), authenticatorData: toText(used.response.authenticatorData),
        signature: toText(used.response.signature), userHandle: used.response.userHandle ? toText(used.response.userHandle) : undefined,
      },
    };
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.hidden = false;
    const problem = form.querySelector("[data-passkey-problem]");
    let asking = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (asking) return;
      asking = true;
      if (problem) problem.hidden = true;
      try {
        const options = JSON.parse(form.dataset.options);
        const given = options.publicKey || options;
        const answer = form.dataset.passkey === "create" ? await create(given) : await get(given);
        form.elements.namedItem("response").value = JSON.stringify(answer);
        form.submit();
      } catch (error) {
        asking = false;
        if (!problem) return;
        problem.textContent = error.name === "InvalidStateError" ? "This device has a passkey for your account already."
          : error.name === "NotAllowedError" ? "The device was not asked, or it took too long. Try again."
          : "The passkey could not be used here.";
        problem.hidden = false;
      }
    });
  }
})();
