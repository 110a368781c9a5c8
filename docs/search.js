"use strict";
/* A hyphen within a word asks the site's search for pages without what follows, so that `fail-on` and `spatial-reshape` found
   nothing. Names of options, rules and devices have hyphens, and nobody excludes words here: they are words apart, as in the index. */
const QUERY = 2; // of the messages between the page and the worker that searches
const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message, ...rest) {
  const asked = message && message.type === QUERY && typeof message.data === "string";
  return post.call(this, asked ? { ...message, data: message.data.replace(/-+/g, " ").trim() } : message, ...rest);
};
