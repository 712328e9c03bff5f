package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
)

// features returns what the deployment uses.
func (d *deployment) features() feature {
	var f feature
	for _, r := range d.resources {
		f |= r.features
	}
	for _, o := range d.operations {
		f |= o.resource.features
	}
	f.set(byteString, d.bytes && len(d.resources)+len(d.operations) > 0)
	if d.snippets != nil {
		f |= snippetsPrototype
	}
	return f
}

// encode writes the deployment with its envelope and a new manifest.
func (d *deployment) encode(version int, features []string, opts Options) []byte {
	size := 1024
	for _, r := range d.resources {
		size += len(r.raw) + 1
	}
	for _, o := range d.operations {
		size += len(o.raw) + 1
	}
	out := append(make([]byte, 0, size), `{"version":`...)
	out = strconv.AppendInt(out, int64(version), 10)
	if len(features) > 0 {
		out = append(append(out, `,"features":`...), quoteList(features)...)
	}
	out = append(out, `,"deployment":{"manifest":`...)
	out = appendManifest(out, opts)
	if d.provider != nil {
		out = append(append(out, `,"secrets_providers":`...), d.provider.raw...)
	}
	out = append(out, `,"resources":[`...)
	for i, r := range d.resources {
		out = appendElement(out, i, r.raw)
	}
	out = append(out, ']')
	if len(d.operations) > 0 {
		out = append(out, `,"pending_operations":[`...)
		for i, o := range d.operations {
			out = appendElement(out, i, o.raw)
		}
		out = append(out, ']')
	}
	out = append(out, `,"metadata":`...)
	if d.metadata == nil {
		out = append(out, `{}`...)
	}
	out = append(out, d.metadata...)
	if d.snippets != nil {
		out = append(append(out, `,"snippets":`...), d.snippets...)
	}
	if len(d.extensions) > 0 {
		out = append(append(out, `,"extensions":`...), objectOf(d.extensions)...)
	}
	for _, m := range d.rest {
		out = append(quote(append(out, ','), m.name), ':')
		out = append(out, m.value...)
	}
	return append(out, `}}`...)
}

func appendElement(out []byte, i int, raw []byte) []byte {
	if i > 0 {
		out = append(out, ',')
	}
	return append(out, raw...)
}

func objectOf(members []member) []byte {
	out := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(quote(out, m.name), ':')
		out = append(out, m.value...)
	}
	return append(out, '}')
}

// appendManifest writes the manifest. Its magic lets a client notice that somebody
// edited the version by hand; an unknown version has none.
func appendManifest(out []byte, opts Options) []byte {
	magic := ""
	if opts.EngineVersion != "" {
		sum := sha256.Sum256([]byte(opts.EngineVersion))
		magic = hex.EncodeToString(sum[:])
	}
	out = append(out, `{"time":`...)
	out = quote(out, opts.Now.UTC().Format(time.RFC3339Nano))
	out = append(out, `,"magic":`...)
	out = quote(out, magic)
	out = append(out, `,"version":`...)
	out = quote(out, opts.EngineVersion)
	return append(out, '}')
}
