package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"arca/internal/api"
	"arca/internal/storage"
	"arca/internal/sys"
)

// maxUIHeaders bounds what goes with every page.
const maxUIHeaders = 100

// uiHeaders adds what sys/config/ui/headers has set to a page's own.
func (n *node) uiHeaders(h http.Header) {
	a := n.core.Active()
	if a == nil {
		return
	}
	set := map[string][]string{}
	err := a.DB.View(context.Background(), func(tx storage.Tx) error {
		for row, err := range tx.Scan(sys.UIHeaderDir, "") {
			if err != nil {
				return err
			}
			var values []string
			if err := json.Unmarshal(row.Value, &values); err != nil {
				return err
			}
			if set[strings.TrimPrefix(row.Key, sys.UIHeaderDir)] = values; len(set) == maxUIHeaders {
				break
			}
		}
		return nil
	})
	if err != nil { // the node is sealing: a page has its own headers at least
		return
	}
	for name, values := range set {
		h[http.CanonicalHeaderKey(name)] = values
	}
}

// cors reads what sys/config/cors has set. It is asked for requests from
// browsers only.
func (n *node) cors() *api.CORS {
	a := n.core.Active()
	if a == nil {
		return nil
	}
	var set sys.CORS
	err := a.DB.View(context.Background(), func(tx storage.Tx) error {
		raw, err := tx.Get(sys.CORSKey)
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &set)
	})
	if err != nil { // not set, or the node is sealing: other origins stay out
		return nil
	}
	return &api.CORS{Origins: set.Origins, Headers: set.Headers}
}
