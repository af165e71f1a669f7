package engine

import (
	"encoding/json"
	"strconv"
	"time"

	"arca/internal/param"
)

// AppendResponse appends an answer in the envelope of Vault's API. It is
// written by hand as every answer passes here; Data is appended as the bytes
// that it already is, where it is JSON.
func AppendResponse(dst []byte, requestID string, r *Response) ([]byte, error) {
	if r.Wrap != nil {
		requestID = "" // the wrapped answer has one of its own
	}
	dst = append(dst, `{"request_id":`...)
	dst = param.AppendString(dst, requestID)
	dst = append(dst, `,"lease_id":`...)
	duration, renewable, leaseID := r.LeaseDuration, r.Renewable, r.LeaseID
	if r.Lease != nil {
		leaseID, duration, renewable = r.Lease.ID, r.Lease.TTL, r.Lease.Renewable
	}
	dst = param.AppendString(dst, leaseID)
	dst = append(dst, `,"renewable":`...)
	dst = strconv.AppendBool(dst, renewable)
	dst = append(dst, `,"lease_duration":`...)
	dst = appendSeconds(dst, duration)
	dst = append(dst, `,"data":`...)
	data, err := r.Encode()
	if err != nil {
		return nil, err
	}
	if r.Wrap != nil {
		data = json.RawMessage("null")
	}
	dst = append(dst, data...)
	dst = append(dst, `,"wrap_info":`...)
	dst = appendWrap(dst, r.Wrap)
	dst = append(dst, `,"warnings":`...)
	dst = appendStrings(dst, r.Warnings)
	dst = append(dst, `,"auth":`...)
	if r.Wrap != nil {
		dst = append(dst, "null"...)
	} else if dst, err = appendAuth(dst, r.Auth); err != nil {
		return nil, err
	}
	if r.MountType != "" {
		dst = append(dst, `,"mount_type":`...)
		dst = param.AppendString(dst, r.MountType)
	}
	if r.TopLevel && r.Wrap == nil && len(data) > 2 && data[0] == '{' {
		dst = append(dst, ',')
		dst = append(dst, data[1:len(data)-1]...)
	}
	return append(dst, '}'), nil
}

func appendSeconds(dst []byte, d time.Duration) []byte {
	return strconv.AppendInt(dst, int64(d/time.Second), 10)
}

func appendWrap(dst []byte, w *WrapInfo) []byte {
	if w == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, `{"token":`...)
	dst = param.AppendString(dst, w.Token)
	dst = append(dst, `,"accessor":`...)
	dst = param.AppendString(dst, w.Accessor)
	dst = append(dst, `,"ttl":`...)
	dst = appendSeconds(dst, w.TTL)
	dst = append(dst, `,"creation_time":"`...)
	dst = w.CreationTime.AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","creation_path":`...)
	dst = param.AppendString(dst, w.CreationPath)
	if w.WrappedAccessor != "" {
		dst = append(dst, `,"wrapped_accessor":`...)
		dst = param.AppendString(dst, w.WrappedAccessor)
	}
	return append(dst, '}')
}

func appendAuth(dst []byte, a *Auth) ([]byte, error) {
	if a == nil {
		return append(dst, "null"...), nil
	}
	dst = append(dst, `{"client_token":`...)
	dst = param.AppendString(dst, a.ClientToken)
	dst = append(dst, `,"accessor":`...)
	dst = param.AppendString(dst, a.Accessor)
	dst = append(dst, `,"policies":`...)
	if a.Policies == nil && a.MFARequirement == nil { // one who has to show more has no list yet
		dst = append(dst, "[]"...)
	} else {
		dst = appendStrings(dst, a.Policies)
	}
	if len(a.TokenPolicies) > 0 {
		dst = append(dst, `,"token_policies":`...)
		dst = appendStrings(dst, a.TokenPolicies)
	}
	if len(a.IdentityPolicies) > 0 {
		dst = append(dst, `,"identity_policies":`...)
		dst = appendStrings(dst, a.IdentityPolicies)
	}
	dst = param.AppendMap(append(dst, `,"metadata":`...), a.Metadata)
	var err error
	if dst, err = appendJSON(append(dst, `,"mfa_requirement":`...), a.MFARequirement == nil, a.MFARequirement); err != nil {
		return nil, err
	}
	dst = append(dst, `,"lease_duration":`...)
	dst = appendSeconds(dst, a.LeaseDuration)
	dst = append(dst, `,"renewable":`...)
	dst = strconv.AppendBool(dst, a.Renewable)
	dst = append(dst, `,"entity_id":`...)
	dst = param.AppendString(dst, a.EntityID)
	dst = append(dst, `,"token_type":`...)
	dst = param.AppendString(dst, a.Type.String())
	dst = append(dst, `,"orphan":`...)
	dst = strconv.AppendBool(dst, a.Orphan)
	dst = append(dst, `,"num_uses":`...)
	dst = strconv.AppendInt(dst, int64(a.NumUses), 10)
	return append(dst, '}'), nil
}

// appendJSON appends what encoding/json makes of v, or null.
func appendJSON(dst []byte, null bool, v any) ([]byte, error) {
	if null {
		return append(dst, "null"...), nil
	}
	raw, err := json.Marshal(v)
	return append(dst, raw...), err
}

// AppendStrings appends a JSON array of strings; nil is the empty one.
func AppendStrings(dst []byte, list []string) []byte {
	if list == nil {
		return append(dst, "[]"...)
	}
	return appendStrings(dst, list)
}

func appendStrings(dst []byte, list []string) []byte {
	if list == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = param.AppendString(dst, s)
	}
	return append(dst, ']')
}
