// Package audit records every request and every answer on devices.
//
// A Broker is given each Record by the hall. It encodes it for each enabled
// device, with the strings of its data replaced by keyed hashes, hands it to
// the device's writer and returns when the first device has it. So a blocked or
// broken device costs nothing while another one works, and when none takes a
// record the request is refused.
//
// Devices are rows in the store: Enable and Disable write them within the
// request's transaction, and the broker follows the commits. The form of the
// lines, the options and the texts are those of Vault's documentation
// (https://developer.hashicorp.com/vault/docs/audit) and of recorded servers.
//
// DESIGN.md beside this file tells what holds at any time, and why.
package audit
